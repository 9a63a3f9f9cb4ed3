from django.urls import path

from jobs import views

urlpatterns = [
    path("jobs/", views.job_list, name="jobs"),
    path("jobs/new/", views.new_job, name="new_job"),
    path("jobs/<pk:job_id>/edit/", views.edit_job, name="edit_job"),
    path("jobs/<pk:job_id>/withdraw/", views.withdraw_job, name="withdraw_job"),
    path("jobs/<pk:job_id>/approve/", views.approve_job, name="approve_job"),
]
