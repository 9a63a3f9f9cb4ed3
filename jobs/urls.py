from django.urls import path

from jobs.views.job_form import edit_job, new_job
from jobs.views.job_list import job_list
from jobs.views.leave import give_leave
from jobs.views.notice import acknowledge
from jobs.views.steps import approve_job, send_back_job, withdraw_job
from jobs.views.stop import resume_world, stop_world

urlpatterns = [
    path("jobs/", job_list, name="jobs"),
    path("jobs/new/", new_job, name="new_job"),
    path("jobs/<pk:job_id>/edit/", edit_job, name="edit_job"),
    path("jobs/<pk:job_id>/withdraw/", withdraw_job, name="withdraw_job"),
    path("jobs/<pk:job_id>/approve/", approve_job, name="approve_job"),
    path("jobs/<pk:job_id>/send-back/", send_back_job, name="send_back_job"),
    path("jobs/<pk:job_id>/leave/", give_leave, name="give_leave"),
    path("stop/", stop_world, name="stop_world"),
    path("stop/end/", resume_world, name="resume_world"),
    path("notices/<pk:notice_id>/acknowledge/", acknowledge, name="acknowledge"),
]
