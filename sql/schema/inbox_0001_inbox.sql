-- Inbox side, version 1: messages that inbox-relay has stored for the workers of a service, beside the consumer side's tables.
-- Safe to run by hand and safe to run again. The statements that workers use: ../inbox/statements.sql, docs/inbox.md.

-- Which migrations this database has. Several sides may live in one database and share this table.
CREATE TABLE IF NOT EXISTS rowpost_schema (
    side       VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    version    INT UNSIGNED NOT NULL,
    name       VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    applied_at DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    PRIMARY KEY (side, version)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- One row per message, written in the transaction of its dedup row. Texts that come with a message are bytes: nobody has checked them.
CREATE TABLE IF NOT EXISTS inbox (
    -- In the order of arrival; of one ordering key, the order in which they are given out.
    id              BIGINT UNSIGNED NOT NULL AUTO_INCREMENT,
    -- [queue NAME] of inbox-relay, and the workers' name for what they take.
    queue           VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- ready: may be taken from due_at on. blocked: an earlier one of its key has not ended. done: by the service, in the transaction
    -- of its effect. dead: rejected, or out of attempts. discarded: by an operator. kept: inbox-relay has filed it, removed at due_at.
    state           ENUM('ready', 'blocked', 'done', 'dead', 'discarded', 'kept')
                    CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    -- When something is next to be done with the row, by a worker (ready) or by inbox-relay (the others). NULL: nothing.
    due_at          DATETIME(6) NULL,
    -- The chain of an ordering key: a hash of the key (NULL: no key, or it has left the chain), and the row before this one.
    key_hash        BINARY(16) NULL,
    after_id        BIGINT UNSIGNED NOT NULL DEFAULT 0,
    -- Attempts that have failed, and the policy of its queue when it was stored.
    attempts        INT UNSIGNED NOT NULL DEFAULT 0,
    max_attempts    INT UNSIGNED NOT NULL DEFAULT 10,
    retry_min_ms    INT UNSIGNED NOT NULL DEFAULT 200,
    retry_max_ms    INT UNSIGNED NOT NULL DEFAULT 30000,
    -- 1: when it is dead, the later ones of its key wait for an operator. 0: they go on.
    holds_key       BOOLEAN NOT NULL DEFAULT 1,
    -- 1: its producer has been told that it was rejected, and acts on that.
    is_reported     BOOLEAN NOT NULL DEFAULT 0,
    -- Why the last attempt failed: bytes, because noting a failure must not fail. The statements cut it.
    reason_code     VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT '',
    reason          VARBINARY(1024) NOT NULL DEFAULT '',
    first_failed_at DATETIME(6) NULL,
    last_failed_at  DATETIME(6) NULL,
    -- When the producer's database took the message, and this one.
    created_at      DATETIME(6) NULL,
    received_at     DATETIME(6) NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    message_id      VARBINARY(255) NOT NULL,
    topic           VARBINARY(255) NOT NULL,
    ordering_key    VARBINARY(1020) NULL,
    content_type    VARBINARY(255) NULL,
    source          VARBINARY(1020) NULL,
    traceparent     VARBINARY(255) NULL,
    -- The queue and the token of the receipt, when its producer has asked for one.
    receipt_to      VARBINARY(255) NULL,
    receipt_token   VARBINARY(2000) NULL,
    -- Application headers, a JSON object in UTF-8; NULL: none.
    headers         MEDIUMBLOB NULL,
    -- Bytes of headers and payload together, so that nobody needs to read them to know.
    size            BIGINT UNSIGNED NOT NULL,
    payload         LONGBLOB NOT NULL,
    PRIMARY KEY (id),
    -- What may be taken, and what inbox-relay has to file: only heads of keys are ready, only rows with work have a time.
    KEY inbox_due (queue, state, due_at),
    KEY inbox_key (queue, key_hash, after_id)
) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ROW_FORMAT = DYNAMIC;

-- Last, so that a run that was cut off half-way is not taken for a whole one.
INSERT INTO rowpost_schema (side, version, name)
SELECT 'inbox', 1, 'inbox_0001_inbox' FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM rowpost_schema WHERE side = 'inbox' AND version = 1);
