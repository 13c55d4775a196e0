-- The inventory service's own tables. The dedup table beside them is made by: outboxctl migrate
CREATE TABLE IF NOT EXISTS stock (
    sku       VARCHAR(32) NOT NULL PRIMARY KEY,
    delivered BIGINT NOT NULL,                  -- what the warehouse took in
    on_hand   BIGINT NOT NULL                   -- what is left of it
) ENGINE = InnoDB;

-- A diary for the audit, with no unique key on the order: an order applied twice would show as two lines.
CREATE TABLE IF NOT EXISTS applied_order (
    line         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    order_id     BIGINT UNSIGNED NOT NULL,
    customer     INT UNSIGNED NOT NULL,
    customer_seq BIGINT UNSIGNED NOT NULL,
    sku          VARCHAR(32) NOT NULL,
    quantity     INT UNSIGNED NOT NULL
) ENGINE = InnoDB;

INSERT IGNORE INTO stock (sku, delivered, on_hand)
VALUES ('apple', 1000000, 1000000), ('pear', 1000000, 1000000), ('plum', 1000000, 1000000);
