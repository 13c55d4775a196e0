-- A bank's own tables, in the TCC example. Rowpost's beside them are made by: outboxctl migrate --side consumer,barrier
CREATE TABLE IF NOT EXISTS account (
    id       INT UNSIGNED NOT NULL PRIMARY KEY,
    balance  BIGINT UNSIGNED NOT NULL,           -- what may be spent
    frozen   BIGINT UNSIGNED NOT NULL DEFAULT 0, -- taken off for transfers that are not decided yet
    expected BIGINT UNSIGNED NOT NULL DEFAULT 0  -- to come in by transfers that are not decided yet
) ENGINE = InnoDB;

INSERT IGNORE INTO account (id, balance)
VALUES (1, 1000), (2, 1000), (3, 1000), (4, 1000), (5, 1000), (6, 1000), (7, 1000), (8, 1000);
