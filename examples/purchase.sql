-- The table of half_order.c, in a database of its own. The barrier beside it is made by: outboxctl migrate --side barrier
CREATE TABLE IF NOT EXISTS purchase (
    gid      VARCHAR(128) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    sku      VARCHAR(32) NOT NULL,
    quantity INT UNSIGNED NOT NULL
) ENGINE = InnoDB;
