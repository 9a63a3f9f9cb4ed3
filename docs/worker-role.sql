-- What `manage.py release_worker` needs in PostgreSQL, and nothing more: no sessions, passwords or admin log, and of people only who has
-- which role, for leave from a freeze counts as long as its giver may give it.
-- Once, as a role that may make roles (a superuser, or one with CREATEROLE; the owner of the tables need not be one):
--     CREATE ROLE portal_worker LOGIN PASSWORD '…';
-- As the owner of the tables, after each migrate:
--     psql -1 -v ON_ERROR_STOP=1 -f docs/worker-role.sql portal
-- Then DATABASE_URL=postgres://portal_worker:…@db.example.com/portal where the workers run, and no SECRET_KEY there.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM portal_worker;
GRANT USAGE ON SCHEMA public TO portal_worker;

-- Whether the tables are of its version: else it does not begin
GRANT SELECT ON django_migrations TO portal_worker;

-- What is to be released, and where
GRANT SELECT ON jobs_business, jobs_machine, jobs_listing, jobs_job, jobs_jobmachine, jobs_freeze, jobs_leave TO portal_worker;
GRANT SELECT ON releases_task, releases_taskversion, releases_releasestage, releases_run TO portal_worker;
GRANT SELECT ON jobs_membership TO portal_worker;
GRANT SELECT (id, is_active, is_superuser) ON deploy_portal_user TO portal_worker;

-- The ledger: what is claimed, begun, ended and moved on
GRANT SELECT ON releases_machinerun TO portal_worker;
GRANT UPDATE (status, worker_id, queued_at, claimed_at, started_at, ended_at) ON releases_machinerun TO portal_worker;
GRANT UPDATE (exit_status, reason, note, version_before) ON releases_machinerun TO portal_worker;
GRANT UPDATE (address, port, "user", site) ON releases_machinerun TO portal_worker; -- a rollback follows its machine
GRANT SELECT, INSERT, UPDATE (heartbeat_at, suspected_at, stopped_at) ON releases_worker TO portal_worker;
GRANT INSERT ON releases_logblock TO portal_worker;
GRANT UPDATE (status, open_batch, batch_opens_at, ended_at) ON releases_run TO portal_worker;
GRANT UPDATE (status, version, done_at) ON releases_releasestage TO portal_worker;
GRANT UPDATE (status) ON jobs_job TO portal_worker;

-- What happened; never in the name of a person. (A role that dumps the database but owns nothing in it needs BYPASSRLS from here on.)
GRANT SELECT, INSERT ON jobs_event TO portal_worker;
ALTER TABLE jobs_event ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS as_granted ON jobs_event;
CREATE POLICY as_granted ON jobs_event USING (true);
DROP POLICY IF EXISTS in_nobodys_name ON jobs_event;
CREATE POLICY in_nobodys_name ON jobs_event AS RESTRICTIVE FOR INSERT TO portal_worker WITH CHECK (actor_id IS NULL);
