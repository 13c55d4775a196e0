-- The order service's own tables. The outbox beside them is made by: outboxctl migrate
CREATE TABLE IF NOT EXISTS customer (
    id     INT UNSIGNED NOT NULL PRIMARY KEY,
    orders BIGINT UNSIGNED NOT NULL DEFAULT 0   -- how many the customer has placed
) ENGINE = InnoDB;

CREATE TABLE IF NOT EXISTS orders (
    id           BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    customer     INT UNSIGNED NOT NULL,
    customer_seq BIGINT UNSIGNED NOT NULL,      -- the customer's first, second, ... order
    sku          VARCHAR(32) NOT NULL,
    quantity     INT UNSIGNED NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO customer (id) VALUES (1), (2), (3), (4), (5), (6), (7), (8);
