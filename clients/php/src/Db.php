<?php

declare(strict_types=1);

namespace Rowpost;

use PDO;
use PDOException;

/**
 * The few things that outbox, inbox and half ask of a connection.
 *
 * @internal
 */
final class Db
{
    public const DUPLICATE = 1062;
    public const LOCK_TIMEOUT = 1205;
    /** Deadlock, lock wait, and MariaDB's "record has changed": the transaction has to be rolled back, and can then succeed. */
    private const LOCKED = [1020, self::LOCK_TIMEOUT, 1213];

    /**
     * A connection that keeps errors to itself is refused: a transaction that a deadlock has ended would look like one that goes on,
     * and what is done after it, like "done", would be committed by itself. Asked each time: the handler may set it, too.
     */
    public static function expectExceptions(PDO $tx): void
    {
        if ($tx->getAttribute(PDO::ATTR_ERRMODE) !== PDO::ERRMODE_EXCEPTION) {
            throw new \LogicException('rowpost needs a connection with PDO::ERRMODE_EXCEPTION');
        }
    }

    /**
     * Runs one statement; its rows, and how many were changed.
     *
     * @param list<mixed> $values
     * @return array{list<list<mixed>>, int}
     */
    public static function run(PDO $tx, string $sql, array $values = []): array
    {
        self::expectExceptions($tx);
        $statement = $tx->prepare($sql);
        foreach ($values as $i => $value) {
            $type = is_int($value) ? PDO::PARAM_INT : ($value === null ? PDO::PARAM_NULL : PDO::PARAM_STR);
            $statement->bindValue($i + 1, $value, $type);
        }
        $statement->execute();
        $rows = $statement->columnCount() > 0 ? $statement->fetchAll(PDO::FETCH_NUM) : [];
        return [$rows, $statement->rowCount()];
    }

    /** The server's error number; 0: it is none of the server's. */
    public static function code(\Throwable $error): int
    {
        for ($cause = $error; $cause !== null; $cause = $cause->getPrevious()) {
            if ($cause instanceof PDOException) {
                return (int) ($cause->errorInfo[1] ?? 0);
            }
        }
        return 0;
    }

    public static function isLocked(\Throwable $error): bool
    {
        return in_array(self::code($error), self::LOCKED, true);
    }
}
