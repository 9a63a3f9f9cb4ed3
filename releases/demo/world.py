"""What the demo's database holds before anybody uses it: people, businesses and their tasks. What is there stays."""

import io
import secrets
from pathlib import Path

from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.core.management import call_command
from django.db import connection

from deploy_portal.models import User
from jobs.models import Business, Job, Membership
from jobs.rights import Role
from releases.demo.config_service import TOKEN_VARIABLE
from releases.models import Action, Task

OPS = "ops"
# What demo.json calls them: (user name, {business: roles})
PEOPLE = {
    "requester": ("li.wei", {"payment": [Role.REQUESTER], "orders": [Role.REQUESTER]}),
    "approver": ("chen.jie", {"payment": [Role.APPROVER], "orders": [Role.APPROVER]}),
    "publisher": ("wang.fang", {"payment": [Role.PUBLISHER], "orders": [Role.PUBLISHER]}),
    OPS: ("ops", {}),
    "outsider": ("zhao.lei", {"orders": [Role.REQUESTER, Role.PUBLISHER]}),
}
BUSINESSES = {"payment": "Payment", "orders": "Orders"}
SCRIPTS = Path(__file__).parent / "scripts"
# Without letters and digits that look alike
ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"


def new_users():
    """{role: {"username", "password"}} for everybody, with fresh passwords."""
    return {role: {"username": username, "password": _password()} for role, (username, _) in PEOPLE.items()}


def is_inhabited():
    """Whether the database has users already; its tables may be of another version, or not be there."""
    return User._meta.db_table in connection.introspection.table_names() and User.objects.exists()


def fill(users, config_service):
    """Makes what is missing. `users` are those of `new_users`; `config_service` is the address that answers now."""
    for slug in BUSINESSES:
        _make_business(slug, config_service)
    for role, account in users.items():
        _make_user(role, **account)
    author = User.objects.get(username=users[OPS]["username"])
    for slug in BUSINESSES:
        _make_task(slug, f"deploy-{slug}", Action.RELEASE, "release.sh", author)
        _make_task(slug, f"rollback-{slug}", Action.ROLLBACK, "rollback.sh", author)


def add_checks():
    """Gives the release tasks a check, and all tasks the scripts of this demo where an older one left its own."""
    author, check = User.objects.get(username=PEOPLE[OPS][0]), _script("check.sh")
    for slug in BUSINESSES:
        tasks = Task.objects.filter(business__slug=slug)
        tasks.get(name=f"deploy-{slug}").revise(_script("release.sh"), author, check)
        tasks.get(name=f"rollback-{slug}").revise(_script("rollback.sh"), author)


def ask_for_first_job(users):
    """Leaves a job to be approved, when there is none at all: bare pages show little."""
    if not Job.objects.exists():
        title, remark = "First release of payment", "Approve it, then take it through its stages."
        options = ["--all", "--title", title, "--remark", remark, "--as", users["requester"]["username"]]
        call_command("create_job", "payment", "2.14.0", *options, stdout=io.StringIO())


def _make_business(slug, config_service):
    options = {"url": f"{config_service}/businesses/{{business}}/machines", "token_variable": TOKEN_VARIABLE}
    business, _ = Business.objects.get_or_create(slug=slug, defaults={"name": BUSINESSES[slug]})
    business.source, business.source_options = "http_json", options
    business.full_clean()
    business.save(update_fields=["source", "source_options"])


def _make_user(role, username, password):
    if User.objects.filter(username=username).exists():
        return
    is_ops = role == OPS
    user = User.objects.create(username=username, password=_hashed(password), is_staff=is_ops, is_superuser=is_ops)
    for slug, roles in PEOPLE[role][1].items():
        business = Business.objects.get(slug=slug)
        Membership.objects.bulk_create([Membership(user=user, business=business, role=role) for role in roles])


def _make_task(slug, name, action, script, author):
    business = Business.objects.get(slug=slug)
    task, is_new = Task.objects.get_or_create(business=business, name=name, defaults={"action": action, "timeout": 60})
    if is_new:
        task.revise(_script(script), author)


def _script(name):
    return (SCRIPTS / name).read_text(encoding="utf-8")


def _hashed(password):
    """Quickly: nobody guesses 80 random bits, and the first login hashes them anew as slowly as all others."""
    hasher = PBKDF2PasswordHasher()
    return hasher.encode(password, hasher.salt(), iterations=1000)


def _password():
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(4)) for _ in range(4))
