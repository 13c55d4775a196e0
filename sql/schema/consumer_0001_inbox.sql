-- Consumer side, version 1: the messages already applied, those that wait or are dead.
-- Safe to run by hand (mysql DATABASE < consumer_0001_inbox.sql) and safe to run again.
-- Needs MariaDB 10.6+ or MySQL 8.0.13+, and binlog_format ROW or MIXED if the binary log is on.

-- Which migrations this database has. Producer and consumer side may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- One row per message that a consumer group has applied, written in the transaction of the handler's own writes.
-- Bytes, so that no collation can take two ids for one. No secondary index: retention walks the primary key.
CREATE TABLE IF NOT EXISTS inbox_applied (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    message_id     VARBINARY(255) NOT NULL,
    applied_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    -- NULL is applied, 'rejected' that the message is dead and its producer was notified: no copy of it may be applied any more.
    outcome        VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NULL,
    reason         VARBINARY(255) NULL,
    PRIMARY KEY (consumer_group, message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Messages that consumers have taken off their queues and not applied: each waits for its next attempt, waits behind an earlier
-- one of its key, or is dead. Empty as long as nothing fails. Texts that come with a message are bytes: nobody has checked them.
CREATE TABLE IF NOT EXISTS inbox_parked (
    -- In the order of arrival: of one ordering key, the order in which they are applied.
    id              BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    consumer_group  VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- One that came without an id, or with one that is too long, has a made-up one; it can only be dead.
    message_id      VARBINARY(255) NOT NULL,
    -- A key longer than the column is cut and ends in a hash of the whole.
    ordering_key    VARBINARY(255) NULL,
    -- A hash of the key, or of the id where there is none: which worker of a process the row belongs to.
    lane            INT UNSIGNED NOT NULL,
    state           ENUM('waiting', 'blocked', 'dead') CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- When something is to be done with the row: the next attempt, a dead one's way into the dead-letter queue, a request.
    next_at         DATETIME(6) NULL,
    attempts        INT UNSIGNED NOT NULL DEFAULT 0,
    -- An attempt has been counted and nothing was heard of it since: whose it is, and how many messages shared it.
    claim           BIGINT UNSIGNED NOT NULL DEFAULT 0,
    claim_size      INT UNSIGNED NOT NULL DEFAULT 0,
    reason_code     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    reason          VARBINARY(255) NOT NULL DEFAULT '',
    parked_at       DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    first_failed_at DATETIME(6) NULL,
    last_failed_at  DATETIME(6) NULL,
    -- A dead one that is older is replayed only when that is forced.
    replay_until    DATETIME(6) NOT NULL,
    -- Where it came from, what it is, and everything else that came with it, one "name=value" a line.
    queue           VARBINARY(255) NOT NULL,
    exchange        VARBINARY(255) NOT NULL DEFAULT '',
    routing_key     VARBINARY(255) NOT NULL DEFAULT '',
    topic           VARBINARY(255) NOT NULL DEFAULT '',
    properties      MEDIUMBLOB NOT NULL,
    body            LONGBLOB NOT NULL,
    -- Above 0: the body is in so many rows of inbox_parked_piece, and the column is empty; unless an operator has edited it.
    pieces          INT UNSIGNED NOT NULL DEFAULT 0,
    -- Bytes of the two, so that nobody needs to read them to know.
    size            BIGINT UNSIGNED NOT NULL,
    -- What an operator asks for with a dead one. A consumer of the group runs it.
    request         ENUM('replay', 'force-replay', 'discard') CHARACTER SET ascii COLLATE ascii_bin NULL,
    requested_at    DATETIME(6) NULL,
    requested_by    VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    request_note    VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL,
    -- Replays so far. The columns above stay as they are after a replay: who asked for the last one, and why.
    replays         INT UNSIGNED NOT NULL DEFAULT 0,
    -- 1: its producer was notified of the rejection, and acts on that: replayed only when that is forced.
    is_reported         BOOLEAN NOT NULL DEFAULT 0,
    -- 1: replayed although its producer was notified of the rejection.
    is_forced       BOOLEAN NOT NULL DEFAULT 0,
    -- 1: the body is not the one that came, an operator has edited it.
    is_edited       BOOLEAN NOT NULL DEFAULT 0,
    PRIMARY KEY (id),
    UNIQUE KEY parked_message (consumer_group, message_id),
    -- Only a dead row is reported, and then it has ended and holds up nobody.
    KEY parked_key (consumer_group, ordering_key, is_reported, id),
    KEY parked_due (consumer_group, next_at, lane)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Bodies larger than the server takes at once.
CREATE TABLE IF NOT EXISTS inbox_parked_piece (
    parked_id BIGINT UNSIGNED NOT NULL,
    n         INT UNSIGNED NOT NULL,
    piece     LONGBLOB NOT NULL,
    PRIMARY KEY (parked_id, n)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- What operators have ended or changed: one row for each message that was discarded, replayed by force or given another body,
-- written in the transaction that does it. Kept for a year; older rows are removed when a consumer writes new ones. The actions
-- inbox-replay and inbox-discard are about a row of `inbox`: consumer_group is its queue then, parked_id its id.
CREATE TABLE IF NOT EXISTS inbox_audit (
    audit_id       BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    done_at        DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    action         VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Who asked for it, and why.
    actor          VARCHAR(128) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    note           VARCHAR(1024) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- In inbox_parked (or inbox, see above).
    parked_id      BIGINT UNSIGNED NOT NULL,
    message_id     VARBINARY(255) NOT NULL,
    topic          VARBINARY(255) NOT NULL,
    ordering_key   VARBINARY(255) NULL,
    -- Why it was dead.
    reason_code    VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    PRIMARY KEY (audit_id),
    KEY audit_message (message_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- The processes that share the partitions of a queue among themselves. Each writes its row again once a second; one that is older
-- than five seconds does not count, and stays for an hour to be looked at.
CREATE TABLE IF NOT EXISTS inbox_member (
    consumer_group VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- Without the number of the partition.
    queue          VARBINARY(255) NOT NULL,
    member         VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- The number that it works with.
    partitions     INT UNSIGNED NOT NULL,
    seen_at        DATETIME(6) NOT NULL,
    PRIMARY KEY (consumer_group, queue, member)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'consumer', 1, 'consumer_0001_inbox' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'consumer' AND version = 1);
