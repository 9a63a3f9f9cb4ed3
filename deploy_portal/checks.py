from django.conf import settings
from django.core.checks import Tags, Warning, register


@register(Tags.security, deploy=True)
def sqlite_in_production(app_configs, **kwargs):
    if settings.SECURE and settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return [
            Warning(
                "The database is SQLite: one web process and one worker on one machine only.",
                hint="Set DATABASE_URL to a PostgreSQL database.",
                id="deploy_portal.W001",
            )
        ]
    return []
