from django.db import migrations, models
from django.db.models import Exists, OuterRef, Subquery, Value
from django.db.models.functions import Cast, Concat

HOST = ("address", "port", "site")
HOLDING = ["queued", "claimed", "running", "unknown"]


def take_place_of_machine(apps, schema_editor):
    """Where each was sent is no longer known; until now, where its machine is counted as that."""
    MachineRun = apps.get_model("releases", "MachineRun")
    machine = apps.get_model("jobs", "Machine").objects.filter(pk=OuterRef("machine"))
    MachineRun.objects.update(**{name: Subquery(machine.values(name)[:1]) for name in (*HOST, "user")})
    holding = MachineRun.objects.filter(status__in=HOLDING)
    on_host = holding.filter(**{name: OuterRef(name) for name in HOST}, pk__lt=OuterRef("pk"))
    # Two of one host, whose machines moved since: the newer goes on holding its machine alone.
    newer = list(holding.filter(Exists(on_host)).values_list("pk", flat=True))
    for pk in newer:
        MachineRun.objects.filter(pk=pk).update(address=Concat(Value("machine run "), Cast("pk", models.CharField())))


class Migration(migrations.Migration):
    dependencies = [
        ("jobs", "0014_not_released"),
        ("releases", "0003_printable_names"),
    ]

    operations = [
        migrations.AddField(
            model_name="machinerun",
            name="address",
            field=models.CharField(default="", max_length=253, verbose_name="address"),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="machinerun",
            name="port",
            field=models.PositiveIntegerField(default=22, verbose_name="SSH port"),
        ),
        migrations.AddField(
            model_name="machinerun",
            name="user",
            field=models.CharField(blank=True, max_length=32, verbose_name="SSH user"),
        ),
        migrations.AddField(
            model_name="machinerun",
            name="site",
            field=models.CharField(blank=True, max_length=255, verbose_name="site"),
        ),
        migrations.AlterField(
            model_name="machinerun",
            name="worker",
            field=models.ForeignKey(
                db_index=False, null=True, on_delete=models.PROTECT, to="releases.worker", verbose_name="worker"
            ),
        ),
        migrations.AddIndex(
            model_name="machinerun",
            index=models.Index(fields=["address", "port"], name="machine_run_by_host"),
        ),
        # PostgreSQL takes no other change of the table after this one in the same transaction.
        migrations.RunPython(take_place_of_machine, migrations.RunPython.noop, elidable=True),
    ]
