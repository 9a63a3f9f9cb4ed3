from django.db import Error
from django.http import JsonResponse
from django.views.decorators.http import require_safe

from deploy_portal.database import other_version


@require_safe
def health(request):
    """For load balancers: 200 when this process can answer from the database, else 503."""
    try:
        is_wrong = other_version()
    except Error:
        is_wrong = "away"
    return JsonResponse({"database": is_wrong or "ok"}, status=503 if is_wrong else 200)
