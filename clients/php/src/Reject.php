<?php

declare(strict_types=1);

namespace Rowpost;

/** Return or throw it in a handler: it will never succeed. Kept as dead, with the reason. */
final class Reject extends \RuntimeException
{
}
