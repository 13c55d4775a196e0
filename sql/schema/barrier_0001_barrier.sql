-- Barrier side, version 1: goes into the database in which the local transaction runs (a half-message's producer,
-- a TCC participant). Safe to run by hand and safe to run again.

-- Which migrations this database has. Producer and consumer side may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The first to insert a key decides: the local transaction with its own reason, or the check with `rollback`.
CREATE TABLE IF NOT EXISTS half_barrier (
    gid        VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    branch     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    op         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'msg', -- msg, try, end (confirm or cancel)
    reason     VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'commit', -- who inserted: commit, rollback; try, cancel; confirm, cancel
    created_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (gid, branch, op)
) ENGINE = InnoDB DEFAULT CHARACTER SET ascii COLLATE ascii_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'barrier', 1, 'barrier_0001_barrier' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'barrier' AND version = 1);
