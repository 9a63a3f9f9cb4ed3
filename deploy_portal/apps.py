from django.apps import AppConfig
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _


class DeployPortalConfig(AppConfig):
    name = "deploy_portal"
    verbose_name = _("People")

    def ready(self):
        from deploy_portal import checks, database  # noqa: F401

        connection_created.connect(database.be_as_impatient)
