import gc
import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "deploy_portal.settings")
application = get_wsgi_application()
# What is loaded by now stays loaded: no collection, in the middle of some request, has to go through it again.
gc.freeze()
