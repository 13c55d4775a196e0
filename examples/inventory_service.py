"""The inventory service of the demo in Python: takes each order out of the stock exactly once.

Beside it runs inbox-relay, which puts the orders into the table `inbox` of this service's own database. Here is no broker and no
dedup: the worker gives out one message in the transaction in which the handler writes, and both are committed together.

The database comes from DB_HOST, DB_PORT, DB_USER, DB_PASSWORD and DB_NAME; WAKE_DIR is that of inbox-relay's configuration. Any
number of these processes share the work. Ends on SIGTERM or SIGINT after the order in hand.
"""

import os

import pymysql

from rowpost import inbox


def connect():
    return pymysql.connect(host=os.environ.get("DB_HOST", "127.0.0.1"), port=int(os.environ.get("DB_PORT", "3306")),
                           user=os.environ.get("DB_USER", "stock"), password=os.environ.get("DB_PASSWORD", ""),
                           database=os.environ.get("DB_NAME", "stock"), charset="utf8mb4")


def on_order(tx, message):
    try:
        order = message.json()
        line = [order[name] for name in ("order_id", "customer", "customer_seq", "sku", "quantity")]
    except (ValueError, KeyError, TypeError):
        return inbox.Reject("the body is not an order")
    with tx.cursor() as cursor:
        if cursor.execute("UPDATE stock SET on_hand = on_hand - %s WHERE sku = %s", (order["quantity"], order["sku"])) == 0:
            return inbox.Reject(f"there is no article {order['sku']}")
        cursor.execute("INSERT INTO applied_order (order_id, customer, customer_seq, sku, quantity) VALUES (%s, %s, %s, %s, %s)", line)
    return None  # done; any exception: undone, and tried again


if __name__ == "__main__":
    inbox.work("inventory-python", on_order, connect, wake_dir=os.environ.get("WAKE_DIR"))
