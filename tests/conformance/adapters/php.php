<?php

// The adapter of clients/php; see README.md. A child reads standard input, so that "stop" finds the parent at work: it is SIGTERM.

declare(strict_types=1);

use Rowpost\Decided;
use Rowpost\Half;
use Rowpost\Inbox;
use Rowpost\Message;
use Rowpost\Outbox;
use Rowpost\Refused;
use Rowpost\Reject;
use Rowpost\Retry;

spl_autoload_register(fn (string $class) => require getenv('ROWPOST_CLIENT') . '/' . substr($class, 8) . '.php');

function say(string $event, array $more = []): void
{
    fwrite(STDOUT, json_encode(['event' => $event] + $more, JSON_INVALID_UTF8_SUBSTITUTE) . "\n");
}

function connect(int $mode = PDO::ERRMODE_EXCEPTION): PDO
{
    $at = json_decode(getenv('ROWPOST_DB'), true);
    $tx = new PDO("mysql:host={$at['host']};port={$at['port']};dbname={$at['database']};charset=utf8mb4", $at['user'], $at['password']);
    $tx->setAttribute(PDO::ATTR_ERRMODE, $mode);
    $tx->exec('SET SESSION innodb_lock_wait_timeout = 1');
    return $tx;
}

function words(array $message): array
{
    $words = ['topic' => $message['topic'], 'payload' => base64_decode($message['payload'])];
    $names = ['key' => 'key', 'headers' => 'headers', 'content_type' => 'contentType', 'receipt_from' => 'receiptFrom',
        'on_rejected' => 'onRejected', 'message_id' => 'messageId'];
    foreach ($names as $from => $to) {
        if (isset($message[$from])) {
            $words[$to] = $message[$from];
        }
    }
    return $words;
}

function add(array $command): void
{
    $tx = connect();
    $tx->beginTransaction();
    $ids = [];
    foreach ($command['messages'] as $message) {
        $words = words($message);
        if (isset($message['deliver_in_ms'])) {
            $words['deliverAt'] = $message['deliver_in_ms'];
        }
        if (isset($message['deliver_at'])) {
            $words['deliverAt'] = DateTime::createFromFormat('U.u', sprintf('%.6F', $message['deliver_at']))->setTimezone(new DateTimeZone('+05:00'));
        }
        $ids[] = Outbox::add($tx, ...$words);
    }
    $command['end'] === 'commit' ? $tx->commit() : $tx->rollBack();
    say('added', ['ids' => $ids]);
}

function effect(PDO $tx, Message $message): void
{
    $tx->prepare('INSERT INTO effect (queue, message_id, topic, ordering_key, content_type, headers, source, traceparent, attempt, size, sha)'
        . ' VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)')->execute([$message->headers['queue'] ?? null, $message->messageId, $message->topic,
        $message->key, $message->contentType, json_encode((object) $message->headers), $message->source, $message->traceparent,
        $message->attempt, strlen($message->payload), hash('sha256', $message->payload)]);
}

function handle(PDO $tx, Message $message): mixed
{
    say('handling', ['message_id' => $message->messageId, 'attempt' => $message->attempt]);
    $do = $message->attempt > ($message->headers['times'] ?? PHP_INT_MAX) ? null : $message->headers['do'] ?? null;
    if ($do === 'lock') {
        $tx->exec('UPDATE contended SET n = n + 1 WHERE id = 1');
    }
    effect($tx, $message);
    switch ($do) {
        case 'raise':
            throw new LogicException('boom');
        case 'retry':
            throw new Retry('later', 50);
        case 'return-retry':
            return new Retry('later', 50);
        case 'reject':
            throw new Reject('never');
        case 'return-reject':
            return new Reject('never');
        case 'raise-odd':
            throw new LogicException("odd \xff" . str_repeat('🔑', 2000));
        case 'reject-odd':
            return new Reject("\xff");
        case 'retry-odd':
            return new Retry("\xf0\x9f", PHP_INT_MIN);
        case 'rollback':
            $tx->rollBack();
            break;
        case 'hang':
            say('hanging');
            for ($until = microtime(true) + 1; microtime(true) < $until; usleep(1000)) { // a signal ends a sleep
            }
            break;
        case 'die':
            posix_kill(getmypid(), SIGKILL);
    }
    return null;
}

function work(array $command): void
{
    $options = ['onError' => fn (Throwable $error, ?Message $message) => fwrite(STDERR, "{$message?->messageId}: {$error->getMessage()}\n")];
    if (isset($command['poll'])) {
        $options['pollMs'] = (int) ($command['poll'] * 1000);
    }
    if (isset($command['wake_dir'])) {
        $options['wakeDir'] = $command['wake_dir'];
    }
    if (isset($command['follow'])) {
        $options['follow'] = $command['follow'];
    }
    if (isset($command['silent'])) {
        $connect = fn () => connect(PDO::ERRMODE_SILENT);
        $options['onError'] = fn (Throwable $error) => say('failed', ['why' => $error->getMessage()]);
    }
    (new Inbox($command['queue'], $connect ?? connect(...), ...$options))->work(handle(...));
}

function half(array $command): void
{
    $client = new Half($command['url'], $command['token']);
    $made = fn (array $list) => array_map(fn (array $message) => Half::message(...words($message)), $list);
    try {
        $answer = $command['call'] === 'prepare'
            ? $client->prepare($command['gid'], $command['producer'], $made($command['commit']), $made($command['rollback']))
            : $client->{$command['call']}($command['gid'], ...(($command['async'] ?? false) ? ['wait' => false] : []));
        say('answered', ['state' => $answer['state']]);
    } catch (Refused $refused) {
        say('refused', ['reason' => $refused->reason(), 'status' => $refused->status]);
    }
}

function local(array $command): void
{
    $tx = connect();
    $tx->beginTransaction();
    try {
        Half::barrier($tx, $command['gid']);
        $tx->prepare("INSERT INTO effect (queue, message_id) VALUES ('local', ?)")->execute([$command['gid']]);
        $command['end'] === 'commit' ? $tx->commit() : $tx->rollBack();
        $outcome = ['commit' => 'committed', 'rollback' => 'rolled_back'][$command['end']];
    } catch (Decided) {
        $tx->rollBack();
        $outcome = 'decided';
    }
    say('local', ['outcome' => $outcome]);
}

function serve(array $command, mixed &$server): void
{
    $free = stream_socket_server('tcp://127.0.0.1:0');
    $port = (int) substr(strrchr(stream_socket_get_name($free, false), ':'), 1);
    fclose($free);
    $server = proc_open([PHP_BINARY, '-S', "127.0.0.1:$port", __FILE__], [['file', '/dev/null', 'r'], STDERR, STDERR], $pipes, null,
        ['ROWPOST_CHECK' => $command['token']] + getenv());
    while (!@fsockopen('127.0.0.1', $port)) {
        usleep(10000);
    }
    say('serving', ['port' => $port]);
}

if (PHP_SAPI === 'cli-server') {
    Half::answerCheck(connect(...), getenv('ROWPOST_CHECK'));
    return;
}

[$mine, $child] = stream_socket_pair(STREAM_PF_UNIX, STREAM_SOCK_STREAM, 0);
$parent = getmypid();
if (pcntl_fork() === 0) {
    fclose($mine);
    while (($line = fgets(STDIN)) !== false) {
        if (json_decode($line, true)['do'] === 'stop') {
            posix_kill($parent, SIGTERM);
        }
        @fwrite($child, $line);
    }
    exit(0);
}
fclose($child);
pcntl_async_signals(true);
pcntl_signal(SIGTERM, fn () => null, false); // of a stop that comes when the worker has ended
$server = null;
say('ready', ['can' => ['wake', 'silent']]);
while (($line = fgets($mine)) !== false) {
    $command = json_decode($line, true);
    match ($command['do']) {
        'add' => add($command),
        'ring' => say('rang', ['ok' => Outbox::ring($command['doorbell'], $command['outbox'])]),
        'work' => work($command),
        'stop' => say('stopped'),
        'half' => half($command),
        'local' => local($command),
        'serve' => serve($command, $server),
    };
}
if ($server !== null) {
    proc_terminate($server);
    proc_close($server);
}
