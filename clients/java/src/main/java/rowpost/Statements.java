package rowpost;

/** The statements of sql/inbox/statements.sql; a test compares them. */
final class Statements {
    private static final String COLUMNS = """
            SELECT id, message_id, topic, ordering_key, content_type, headers, source, traceparent, created_at, received_at,
                   attempts + 1 AS attempt, max_attempts, key_hash, size,
                   IF(size + 65536 <= @@max_allowed_packet, payload, NULL) AS payload, CAST(due_at AS CHAR) AS due
            FROM inbox""";
    static final String TAKE = COLUMNS + """
             FORCE INDEX (inbox_due)
            WHERE queue = ? AND state = 'ready' AND due_at >= ? AND due_at <= UTC_TIMESTAMP(6)
            ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED""";
    static final String FOLLOWING = COLUMNS + " WHERE id = ?";
    static final String NEXT = """
            SELECT id FROM inbox FORCE INDEX (inbox_key)
            WHERE queue = ? AND key_hash = ? AND after_id = ? AND state = 'blocked'
            ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED""";
    static final String DONE = """
            UPDATE inbox FORCE INDEX (PRIMARY) SET state = IF(state = 'ready', 'done', 'ready'), due_at = UTC_TIMESTAMP(6)
            WHERE (id = ? AND state = 'ready') OR (id = ? AND state = 'blocked')""";
    static final String RETRY = """
            UPDATE inbox SET
                due_at = UTC_TIMESTAMP(6) + INTERVAL IF(attempts + 1 >= max_attempts, 0, CAST(1000 * LEAST(31536000000, GREATEST(0,
                    0 + COALESCE(?, LEAST(retry_max_ms, retry_min_ms * POW(2, LEAST(attempts, 24))) * (0.5 + RAND() / 2))))
                    AS UNSIGNED)) MICROSECOND,
                state = IF(attempts + 1 >= max_attempts, 'dead', 'ready'),
                reason_code = 'OBX_E_HANDLER', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
                first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
                attempts = attempts + 1
            WHERE id = ? AND state = 'ready'""";
    static final String REJECT = """
            UPDATE inbox SET
                due_at = UTC_TIMESTAMP(6), state = 'dead',
                reason_code = 'OBX_E_REJECTED', reason = COALESCE(UNHEX(LEFT(HEX(LEFT(?, 1024)), 2048)), ''),
                first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
                attempts = attempts + 1
            WHERE id = ? AND state = 'ready'""";
    static final String FAILED = """
            SELECT id FROM inbox WHERE id = ? AND state = 'ready' AND attempts + 1 = ? FOR UPDATE SKIP LOCKED""";
    static final String COUNT = """
            UPDATE inbox SET
                due_at = IF(attempts >= max_attempts, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL 30 SECOND),
                state = IF(attempts >= max_attempts, 'dead', 'ready'),
                reason_code = 'OBX_E_TIMEOUT', reason = 'its worker did not come back',
                first_failed_at = COALESCE(first_failed_at, UTC_TIMESTAMP(6)), last_failed_at = UTC_TIMESTAMP(6),
                attempts = attempts + 1
            WHERE id = ? AND state = 'ready'""";
    static final String COUNTED = """
            UPDATE inbox SET attempts = attempts - 1 WHERE id = ? AND state = 'ready' AND attempts = ?""";
    static final String PAYLOAD = """
            SELECT SUBSTRING(payload, ? + 1, ?) FROM inbox WHERE id = ?""";

    private Statements() {
    }
}
