<?php

declare(strict_types=1);

namespace Rowpost;

/** Return or throw it in a handler: undone, and tried again after so many ms (null: the queue's backoff). */
final class Retry extends \RuntimeException
{
    public function __construct(string $reason = '', public readonly ?int $afterMs = null)
    {
        parent::__construct($reason);
    }
}
