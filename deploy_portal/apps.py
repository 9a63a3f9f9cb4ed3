from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class DeployPortalConfig(AppConfig):
    name = "deploy_portal"
    verbose_name = _("People")

    def ready(self):
        from deploy_portal import checks  # noqa: F401
