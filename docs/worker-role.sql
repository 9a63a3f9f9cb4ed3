-- What `manage.py release_worker` needs in PostgreSQL, and nothing more: no users, sessions, memberships or admin log.
-- Once, as a role that may make roles (a superuser, or one with CREATEROLE; the owner of the tables need not be one):
--     CREATE ROLE portal_worker LOGIN PASSWORD '…';
-- As the owner of the tables, after each migrate:
--     psql -1 -v ON_ERROR_STOP=1 -f docs/worker-role.sql portal
-- Then DATABASE_URL=postgres://portal_worker:…@db.example.com/portal where the workers run, and no SECRET_KEY there.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM portal_worker;
GRANT USAGE ON SCHEMA public TO portal_worker;

-- What is to be released, and where
GRANT SELECT ON jobs_business, jobs_machine, jobs_listing, jobs_job, jobs_jobmachine, jobs_freeze, jobs_leave TO portal_worker;
GRANT SELECT ON releases_task, releases_taskversion, releases_releasestage, releases_run TO portal_worker;

-- The ledger: what is claimed, begun, ended and moved on
GRANT SELECT, UPDATE ON releases_machinerun TO portal_worker;
GRANT SELECT, INSERT, UPDATE ON releases_worker TO portal_worker;
GRANT INSERT ON releases_logblock TO portal_worker;
GRANT UPDATE (status, open_batch, batch_opens_at, ended_at) ON releases_run TO portal_worker;
GRANT UPDATE (status, version, done_at) ON releases_releasestage TO portal_worker;
GRANT UPDATE (status) ON jobs_job TO portal_worker;

-- What happened
GRANT SELECT, INSERT ON jobs_event TO portal_worker;
