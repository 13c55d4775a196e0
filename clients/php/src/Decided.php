<?php

declare(strict_types=1);

namespace Rowpost;

/** The barrier is taken: a check has decided first, or this gid was used before. Roll back. */
final class Decided extends \RuntimeException
{
}
