from django.urls import path, register_converter

from releases.converters import KindConverter
from releases.views.excuse import excuse_machines
from releases.views.home import home, running
from releases.views.job import job_page
from releases.views.machine import machine_list, machine_page
from releases.views.machine_run import (
    machine_run_download,
    machine_run_log,
    machine_run_page,
    resolve_machine_run,
)
from releases.views.rollback import roll_back_job, roll_back_stage
from releases.views.run import cancel_run, pause_run, resume_run, run_page
from releases.views.stage import skip_stage, stage_live, stage_page

register_converter(KindConverter, "kind")

urlpatterns = [
    path("", home, name="home"),
    path("running/", running, name="running"),
    path("machines/", machine_list, name="machines"),
    path("machines/<pk:machine_id>/", machine_page, name="machine"),
    path("jobs/<pk:job_id>/", job_page, name="job"),
    path("jobs/<pk:job_id>/rollback/", roll_back_job, name="roll_back_job"),
    path("jobs/<pk:job_id>/excuse/", excuse_machines, name="excuse_machines"),
    path("jobs/<pk:job_id>/runs/<pk:run_id>/", run_page, name="run"),
    path("jobs/<pk:job_id>/runs/<pk:run_id>/pause/", pause_run, name="pause_run"),
    path("jobs/<pk:job_id>/runs/<pk:run_id>/resume/", resume_run, name="resume_run"),
    path("jobs/<pk:job_id>/runs/<pk:run_id>/cancel/", cancel_run, name="cancel_run"),
    path("jobs/<pk:job_id>/stages/<kind:kind>/", stage_page, name="stage"),
    path("jobs/<pk:job_id>/stages/<kind:kind>/live/", stage_live, name="stage_live"),
    path("jobs/<pk:job_id>/stages/<kind:kind>/skip/", skip_stage, name="skip_stage"),
    path("jobs/<pk:job_id>/stages/<kind:kind>/rollback/", roll_back_stage, name="roll_back_stage"),
    path("jobs/<pk:job_id>/machine-runs/<pk:machine_run_id>/", machine_run_page, name="machine_run"),
    path("jobs/<pk:job_id>/machine-runs/<pk:machine_run_id>/log/", machine_run_log, name="machine_run_log"),
    path(
        "jobs/<pk:job_id>/machine-runs/<pk:machine_run_id>/log.txt", machine_run_download, name="machine_run_download"
    ),
    path("jobs/<pk:job_id>/machine-runs/<pk:machine_run_id>/resolve/", resolve_machine_run, name="resolve_machine_run"),
]
