-- The services' own tables of the saga example. Each service has a database of its own, named by its role; Rowpost's
-- tables (sides producer and consumer) stand beside them.

-- shop
CREATE TABLE orders (
    id       BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    customer BIGINT UNSIGNED NOT NULL,
    sku      VARCHAR(32) NOT NULL,
    amount   INT UNSIGNED NOT NULL,
    state    VARCHAR(16) NOT NULL DEFAULT 'placed', -- then ready, or cancelled
    why      VARCHAR(255) NOT NULL DEFAULT ''
);

-- payment
CREATE TABLE account (
    customer BIGINT UNSIGNED NOT NULL PRIMARY KEY,
    balance  INT UNSIGNED NOT NULL
);

-- stock
CREATE TABLE article (
    sku     VARCHAR(32) NOT NULL PRIMARY KEY,
    on_hand INT UNSIGNED NOT NULL
);
