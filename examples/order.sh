#!/bin/sh
# An order from the shell, with nothing but the mariadb (or mysql) client: any language that can INSERT can produce.
#
# usage: order.sh CUSTOMER SKU QUANTITY
# The database comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME.
set -eu

die() {
    echo "order.sh: $*" >&2
    exit 2
}

[ $# = 3 ] || die "usage: order.sh CUSTOMER SKU QUANTITY"
case $1$3 in *[!0-9]*) die "CUSTOMER and QUANTITY are numbers" ;; esac
case $2 in *[!a-z]*) die "SKU is a word of small letters" ;; esac
client=$(command -v mariadb || command -v mysql) || die "the mariadb or mysql client is missing"

# The ordering key keeps the orders of one customer in their order. If anything fails, the client stops and the
# server rolls back: order and message share one fate.
order=$(MYSQL_PWD=${DB_PASSWORD-} "$client" --host="${DB_HOST:-127.0.0.1}" --port="${DB_PORT:-3306}" \
    --user="${DB_USER:-shop}" --skip-column-names --batch "${DB_NAME:-shop}" <<SQL
START TRANSACTION;
UPDATE customer SET orders = orders + 1 WHERE id = $1;
INSERT INTO orders (customer, customer_seq, sku, quantity)
    SELECT id, orders, '$2', $3 FROM customer WHERE id = $1;
SET @order = LAST_INSERT_ID();
INSERT INTO outbox (topic, ordering_key, payload)
    SELECT 'order.placed', CONCAT('customer-', customer),
           JSON_OBJECT('order_id', id, 'customer', customer, 'customer_seq', customer_seq,
                       'sku', sku, 'quantity', quantity)
    FROM orders WHERE id = @order;
COMMIT;
SELECT @order;
SQL
) || die "the order was not placed"
[ "$order" != 0 ] || die "there is no customer $1"
echo "order $order"
