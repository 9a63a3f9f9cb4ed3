from django.urls import path

from jobs import freeze_views, views

urlpatterns = [
    path("jobs/", views.job_list, name="jobs"),
    path("jobs/new/", views.new_job, name="new_job"),
    path("jobs/<pk:job_id>/edit/", views.edit_job, name="edit_job"),
    path("jobs/<pk:job_id>/withdraw/", views.withdraw_job, name="withdraw_job"),
    path("jobs/<pk:job_id>/approve/", views.approve_job, name="approve_job"),
    path("jobs/<pk:job_id>/leave/", freeze_views.give_leave, name="give_leave"),
    path("stop/", freeze_views.stop_world, name="stop_world"),
    path("stop/end/", freeze_views.resume_world, name="resume_world"),
    path("notices/<pk:notice_id>/acknowledge/", views.acknowledge, name="acknowledge"),
]
