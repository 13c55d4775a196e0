"""The stock service: takes orders from the inbox, and says through the outbox what it has reserved."""

import os

import pymysql

from rowpost import inbox, outbox


def connect():
    return pymysql.connect(host=os.environ["DB_HOST"], port=int(os.environ["DB_PORT"]), user=os.environ["DB_USER"],
                           password=os.environ["DB_PASSWORD"], database=os.environ["DB_NAME"], charset="utf8mb4")


def on_order(tx, message):
    order = message.json()
    with tx.cursor() as cursor:
        changed = cursor.execute("UPDATE stock SET on_hand = on_hand - %s WHERE sku = %s",
                                 (order["quantity"], order["sku"]))
    if changed == 0:
        return inbox.Reject("no such article")  # any exception: undone, and tried again
    outbox.add(tx, "stock.reserved", order, key=order["sku"])


inbox.work("stock", on_order, connect)  # until SIGTERM
