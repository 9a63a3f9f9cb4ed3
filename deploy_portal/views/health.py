from django.db import Error
from django.http import JsonResponse
from django.views.decorators.http import require_safe

from deploy_portal.database import lacks_migrations


@require_safe
def health(request):
    """For load balancers: 200 when this process can answer from the database, else 503."""
    try:
        is_older = lacks_migrations()
    except Error:
        return JsonResponse({"database": "away"}, status=503)
    if is_older:
        return JsonResponse({"database": "older than the portal: run manage.py migrate"}, status=503)
    return JsonResponse({"database": "ok"})
