-- Version 2: how many sessions a user has opened since the transition before, by kind of device. No row is written anew.

ALTER TABLE activity
    ADD COLUMN opened_web smallint NOT NULL DEFAULT 0,
    ADD COLUMN opened_mobile smallint NOT NULL DEFAULT 0,
    ADD COLUMN opened_desktop smallint NOT NULL DEFAULT 0,
    ADD COLUMN opened_server smallint NOT NULL DEFAULT 0;

CREATE OR REPLACE VIEW user_activity AS
SELECT user_id, version AS activity_id, at AS "timestamp",
    CASE
        WHEN is_there(to_status) AND NOT is_there(from_status) THEN 'login'
        WHEN is_there(from_status) AND NOT is_there(to_status) THEN 'logout'
        ELSE 'status_change'
    END AS event_type,
    from_status, to_status, cause,
    opened_web, opened_mobile, opened_desktop, opened_server
FROM activity;
