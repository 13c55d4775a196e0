-- The transfer service's own table, in the TCC example. The barrier beside it is made by: outboxctl migrate --side barrier
CREATE TABLE IF NOT EXISTS transfer (
    gid    VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    debit  VARCHAR(32) NOT NULL, -- "bank_a/3"
    credit VARCHAR(32) NOT NULL,
    amount BIGINT UNSIGNED NOT NULL
) ENGINE = InnoDB;
