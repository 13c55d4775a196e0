-- Consumer side, version 3: bodies larger than the server takes at once, and rows that hold up their key found by one entry of an index.
-- Safe to run by hand (mysql DATABASE < consumer_0003_pieces.sql) and safe to run again; on MySQL, where a column cannot be
-- added "if not exists", a second run by hand needs mysql --force.
-- Needs MariaDB 10.6+ or MySQL 8.0.13+, and binlog_format ROW or MIXED if the binary log is on.

-- Above 0: the body is in so many rows of obx_parked_piece, and the column is empty; unless an operator has edited it.
ALTER TABLE obx_parked ADD COLUMN /*M! IF NOT EXISTS */ pieces INT UNSIGNED NOT NULL DEFAULT 0;

-- Only a dead row is told, and then it has ended and holds up nobody.
ALTER TABLE obx_parked DROP KEY parked_key, ADD KEY parked_key (consumer_group, ordering_key, is_told, id);

CREATE TABLE IF NOT EXISTS obx_parked_piece (
    parked_id BIGINT UNSIGNED NOT NULL,
    n         INT UNSIGNED NOT NULL,
    piece     LONGBLOB NOT NULL,
    PRIMARY KEY (parked_id, n)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO oncebox_schema (side, version, name)
SELECT 'consumer', 3, 'consumer_0003_pieces' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM oncebox_schema WHERE side = 'consumer' AND version = 3);
