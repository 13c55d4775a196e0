<?php

// The stock service: takes orders from the inbox, and says through the outbox what it has reserved.

use Rowpost\Inbox;
use Rowpost\Message;
use Rowpost\Outbox;
use Rowpost\Reject;

require getenv('ROWPOST_AUTOLOAD') ?: __DIR__ . '/../vendor/autoload.php';

$connect = fn () => new PDO(
    sprintf('mysql:host=%s;port=%s;dbname=%s;charset=utf8mb4', getenv('DB_HOST'), getenv('DB_PORT'), getenv('DB_NAME')),
    getenv('DB_USER'),
    getenv('DB_PASSWORD'),
);

$onOrder = function (PDO $tx, Message $message) {
    $order = $message->json();
    $update = $tx->prepare('UPDATE stock SET on_hand = on_hand - ? WHERE sku = ?');
    $update->execute([$order['quantity'], $order['sku']]);
    if ($update->rowCount() === 0) {
        return new Reject('no such article'); // any exception: undone, and tried again
    }
    Outbox::add($tx, 'stock.reserved', $message->payload, key: $order['sku']);
};

(new Inbox('stock', $connect))->work($onOrder); // until SIGTERM
