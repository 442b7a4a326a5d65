-- What a client proves at each refresh; sessions from before have none and cannot be refreshed.
ALTER TABLE sessions ADD COLUMN client_mark TEXT;

-- Attempts by the keyed hash of the name that was tried.
CREATE TABLE sign_in_attempts (
    name_mark TEXT NOT NULL PRIMARY KEY,
    state TEXT NOT NULL,
    kept_until BIGINT NOT NULL
);
CREATE INDEX sign_in_attempts_kept ON sign_in_attempts (kept_until);
