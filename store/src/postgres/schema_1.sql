-- Version 1 of the tables. Everything is made in the schema that `search_path` names.

-- People and analytics. Not needed for presence.
CREATE TABLE user_details (
    user_id text PRIMARY KEY,
    username text NOT NULL,
    email text NOT NULL,
    creation_date timestamptz NOT NULL
);

-- One row per transition. Time and version name it within a user: the same twice is one row. The version is sixteen
-- bytes that order as versions do. Partitioned by day as UTC has days: a day that is over is dropped whole.
CREATE TABLE activity (
    user_key bytea NOT NULL,
    user_id text NOT NULL,
    at timestamptz NOT NULL,
    version bytea NOT NULL,
    from_status text NOT NULL,
    to_status text NOT NULL,
    cause text NOT NULL,
    PRIMARY KEY (user_key, at, version)
) PARTITION BY RANGE (at);

-- For spans of time over everybody; a few kilobytes a day, since rows come nearly in the order of time.
CREATE INDEX activity_at ON activity USING brin (at) WITH (pages_per_range = 32);

-- Whether somebody is there in this status.
CREATE FUNCTION is_there(status text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN status IN ('online', 'idle', 'dnd');

-- The history in the words of people.
CREATE VIEW user_activity AS
SELECT user_id, version AS activity_id, at AS "timestamp",
    CASE
        WHEN is_there(to_status) AND NOT is_there(from_status) THEN 'login'
        WHEN is_there(from_status) AND NOT is_there(to_status) THEN 'logout'
        ELSE 'status_change'
    END AS event_type,
    from_status, to_status, cause
FROM activity;

CREATE FUNCTION day_table(day integer) RETURNS text LANGUAGE sql STABLE
    RETURN 'activity_' || to_char(date '1970-01-01' + day, 'YYYYMMDD');

-- Makes the table of a day, counted from 1970-01-01, where it is not there.
CREATE FUNCTION make_day(day integer) RETURNS void LANGUAGE plpgsql AS $body$
BEGIN
    IF to_regclass(format('%I.%I', current_schema, day_table(day))) IS NOT NULL THEN
        RETURN;
    END IF;
    -- Two who make the same one come one after the other.
    PERFORM pg_advisory_xact_lock(hashtext(current_schema || '.make_day'));
    EXECUTE format(
        'CREATE TABLE IF NOT EXISTS %I PARTITION OF activity FOR VALUES FROM (%L) TO (%L)',
        day_table(day),
        (date '1970-01-01' + day)::timestamp AT TIME ZONE 'UTC',
        (date '1970-01-01' + day + 1)::timestamp AT TIME ZONE 'UTC');
END
$body$;

-- Drops the tables of the days before one. Returns how many there were.
CREATE FUNCTION drop_days(before integer) RETURNS integer LANGUAGE plpgsql AS $body$
DECLARE
    name text;
    dropped integer := 0;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext(current_schema || '.make_day'));
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'activity'::regclass AND c.relname ~ '^activity_\d{8,}$'
            AND to_date(substr(c.relname, 10), 'YYYYMMDD') < date '1970-01-01' + before
    LOOP
        EXECUTE format('DROP TABLE %I', name);
        dropped := dropped + 1;
    END LOOP;
    RETURN dropped;
END
$body$;
