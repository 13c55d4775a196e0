package inbox

// The statements of sql/inbox/statements.sql; a test compares them.
const (
	columns = `SELECT id, message_id, topic, ordering_key, content_type, headers, source, traceparent, created_at, received_at,
       attempts + 1 AS attempt, max_attempts, key_hash, size,
       IF(size + 65536 <= @@max_allowed_packet, payload, NULL) AS payload, CAST(due_at AS CHAR) AS due
FROM inbox`
	take = columns + ` FORCE INDEX (inbox_due)
WHERE queue = ? AND state = 'ready' AND due_at >= ? AND due_at <= UTC_TIMESTAMP(6)
ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED`
	following = columns + ` WHERE id = ?`
	next      = `SELECT id FROM inbox FORCE INDEX (inbox_key)
WHERE queue = ? AND key_hash = ? AND after_id = ? AND state = 'blocked'
ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED`
	done = `UPDATE inbox FORCE INDEX (PRIMARY) SET state = IF(state = 'ready', 'done', 'ready'), due_at = UTC_TIMESTAMP(6)
WHERE (id = ? AND state = 'ready') OR (id = ? AND state = 'blocked')`
	retry = `UPDATE inbox SET
    due_at = UTC_TIMESTAMP(6) + INTERVAL IF(attempts + 1 >= max_attempts, 0, CAST(1000 * LEAST(31536000000, GREATEST(0,
        0 + COALESCE(?, LEAST(retry_max_ms, retry_min_ms * POW(2, LEAST(attempts, 24))) * (0.5 + RAND() / 2))))
        AS UNSIGNED)) MICROSECOND,
    state = IF(attempts + 1 >= max_attempts, 'dead', 'ready'),
    reason_code = 'OBX_E_HANDLER', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'`
	reject = `UPDATE inbox SET
    due_at = UTC_TIMESTAMP(6), state = 'dead',
    reason_code = 'OBX_E_REJECTED', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'`
	failed = `SELECT id FROM inbox WHERE id = ? AND state = 'ready' AND attempts + 1 = ? FOR UPDATE SKIP LOCKED`
	count  = `UPDATE inbox SET
    due_at = IF(attempts >= max_attempts, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 30 SECOND),
    state = IF(attempts >= max_attempts, 'dead', 'ready'),
    reason_code = 'OBX_E_TIMEOUT', reason = 'its worker did not come back',
    first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
    attempts = attempts + 1
WHERE id = ? AND state = 'ready'`
	counted = `UPDATE inbox SET attempts = attempts - 1 WHERE id = ? AND state = 'ready' AND attempts = ?`
	payload = `SELECT SUBSTRING(payload, ? + 1, ?) FROM inbox WHERE id = ?`
)
