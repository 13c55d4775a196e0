package rowpost;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpHandler;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.URLDecoder;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.time.Duration;
import java.util.Base64;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import javax.sql.DataSource;

/**
 * Half-messages: sent exactly when work outside of the outbox's database succeeds (docs/half-messages.md). Prepare, the local
 * transaction with {@link #barrier} as its first statement, then commit or rollback. If the producer dies in between, the relay
 * asks the check address, see {@link #checkHandler}.
 */
public final class Half {
    private static final int ANSWER_MAX = 16 * 1024 * 1024;

    private Half() {
    }

    /**
     * What the relay has: prepared, committed, rolled_back or parked; accepted of a verdict that was not waited for.
     * {@code json} is the whole answer.
     */
    public record State(String gid, String state, String json) {
    }

    /** The relay has said no: {@link #reason} is already_committed, gid_reused, unknown_gid, ... */
    public static final class RefusedException extends RuntimeException {
        private static final long serialVersionUID = 1;
        private final int status;
        private final String reason;

        RefusedException(int status, String reason, String answer) {
            super(status + " " + reason + ": " + answer);
            this.status = status;
            this.reason = reason;
        }

        public int status() {
            return status;
        }

        public String reason() {
            return reason;
        }
    }

    /** No clear answer in time: perhaps done. Repeat it, or leave it to check-back. */
    public static final class UnansweredException extends RuntimeException {
        private static final long serialVersionUID = 1;

        UnansweredException(String what) {
            super(what);
        }
    }

    /** The barrier is taken: a check has decided first, or this gid was used before. Roll back. */
    public static final class DecidedException extends RuntimeException {
        private static final long serialVersionUID = 1;

        DecidedException(String gid, Throwable cause) {
            super(gid, cause);
        }
    }

    /** An answer of a bounded length, in memory. */
    private static final class Text implements HttpResponse.BodySubscriber<String> {
        private final CompletableFuture<String> whole = new CompletableFuture<>();
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        private Flow.Subscription subscription;

        @Override
        public CompletionStage<String> getBody() {
            return whole;
        }

        @Override
        public void onSubscribe(Flow.Subscription given) {
            subscription = given;
            given.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(List<ByteBuffer> parts) {
            for (ByteBuffer part : parts) {
                if (bytes.size() + part.remaining() > ANSWER_MAX) {
                    subscription.cancel();
                    whole.completeExceptionally(new IOException("the answer is too long"));
                    return;
                }
                byte[] copy = new byte[part.remaining()];
                part.get(copy);
                bytes.writeBytes(copy);
            }
        }

        @Override
        public void onError(Throwable error) {
            whole.completeExceptionally(error);
        }

        @Override
        public void onComplete() {
            whole.complete(bytes.toString(StandardCharsets.UTF_8));
        }
    }

    /**
     * The relay's API. A request has 2 s, and is repeated while there is no clear answer, for 20 s. The token goes to the relay's
     * address and nowhere else: no redirects, no proxies. Any thread.
     */
    public static final class Client {
        private static final long TIMEOUT_MS = 2000;
        private final HttpClient http = HttpClient.newBuilder().connectTimeout(Duration.ofMillis(TIMEOUT_MS))
                .followRedirects(HttpClient.Redirect.NEVER).proxy(HttpClient.Builder.NO_PROXY).build();
        private final String url;
        private final String token;
        private final Duration patience;

        public Client(String url, String token) {
            this(url, token, Duration.ofSeconds(20));
        }

        public Client(String url, String token, Duration patience) {
            this.url = url.replaceAll("/+$", "") + "/v1/half-messages";
            this.token = Objects.requireNonNull(token);
            this.patience = patience;
        }

        /** Start the local transaction only when it has returned. */
        public State prepare(String gid, String producer, List<Outbox.Message> commit, List<Outbox.Message> rollback) {
            return call("POST", "", gid, true, "{\"gid\":" + quote(gid) + ",\"producer\":" + quote(producer) + ",\"commit\":" + json(commit)
                    + ",\"rollback\":" + json(rollback) + "}");
        }

        public State commit(String gid) {
            return commit(gid, true);
        }

        /**
         * Without {@code wait} it returns when the relay has queued the verdict ({@code state} is accepted); should it be lost
         * there, check-back finds out. Then nobody says of a conflict.
         */
        public State commit(String gid, boolean wait) {
            return call("POST", "/" + encode(gid) + "/commit", gid, wait, "");
        }

        public State rollback(String gid) {
            return rollback(gid, true);
        }

        public State rollback(String gid, boolean wait) {
            return call("POST", "/" + encode(gid) + "/rollback", gid, wait, "");
        }

        public State lookup(String gid) {
            return call("GET", "/" + encode(gid), gid, true, "");
        }

        /** The bytes of a repeated prepare are the same: printed again they might be another prepare. */
        private State call(String method, String path, String gid, boolean wait, String body) {
            HttpRequest.Builder builder = HttpRequest.newBuilder(URI.create(url + path)).timeout(Duration.ofMillis(TIMEOUT_MS))
                    .header("Authorization", "Bearer " + token).header("Content-Type", "application/json")
                    .method(method, HttpRequest.BodyPublishers.ofString(body));
            HttpRequest request = (wait ? builder : builder.header("Prefer", "respond-async")).build();
            long until = System.nanoTime() + patience.toNanos();
            for (long pause = 50;; pause = Math.min(2 * pause, 1000)) {
                String why;
                try {
                    HttpResponse<String> answer = once(request);
                    int status = answer.statusCode();
                    if (status >= 400 && status < 500) {
                        throw new RefusedException(status, member(answer.body(), "reason"), answer.body());
                    }
                    String state = member(answer.body(), "state");
                    if (status < 300 && state != null && gid.equals(member(answer.body(), "gid"))) {
                        return new State(gid, state, answer.body());
                    }
                    why = "status " + status + ", or an answer that names no gid";
                } catch (IOException e) {
                    why = e.toString();
                } catch (InterruptedException e) {
                    Thread.currentThread().interrupt();
                    throw new UnansweredException("interrupted");
                }
                if (System.nanoTime() + pause * 1_000_000 - until > 0) {
                    throw new UnansweredException(method + " " + url + path + ": " + why);
                }
                sleep(pause);
            }
        }

        /** Within the time for a request: HttpRequest's own limit ends with the headers of the answer. */
        private HttpResponse<String> once(HttpRequest request) throws IOException, InterruptedException {
            CompletableFuture<HttpResponse<String>> answer = http.sendAsync(request, info -> new Text());
            try {
                return answer.get(TIMEOUT_MS, TimeUnit.MILLISECONDS);
            } catch (ExecutionException | TimeoutException e) {
                throw new IOException(e instanceof TimeoutException ? "the answer takes too long" : String.valueOf(e.getCause()), e);
            } finally {
                answer.cancel(true); // if it is there, this does nothing
            }
        }

        private static void sleep(long ms) {
            try {
                Thread.sleep(ms);
            } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
                throw new UnansweredException("interrupted");
            }
        }
    }

    private static String encode(String gid) {
        return URLEncoder.encode(gid, StandardCharsets.UTF_8);
    }

    /** A member whose value is a plain word, as gid, state and reason are. */
    private static String member(String json, String name) {
        Matcher found = Pattern.compile("\"" + name + "\"\\s*:\\s*\"([A-Za-z0-9._:~-]*)\"").matcher(json);
        return found.find() ? found.group(1) : null;
    }

    private static String json(List<Outbox.Message> messages) {
        return messages.stream().map(message -> "{\"topic\":" + quote(message.topic) + ",\"payload_base64\":\""
                + Base64.getEncoder().encodeToString(message.payload) + "\",\"content_type\":" + quote(message.contentType) + ",\"ordering_key\":"
                + quote(message.key) + ",\"headers\":" + message.headers + ",\"receipt_from\":" + quote(message.receiptFrom)
                + ",\"on_rejected\":" + quote(message.onRejected) + ",\"message_id\":" + quote(message.messageId) + "}")
                .collect(Collectors.joining(",", "[", "]"));
    }

    private static String quote(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder quoted = new StringBuilder("\"");
        for (char c : text.toCharArray()) {
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < ' ') {
                quoted.append(String.format("\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }

    /** The first statement of the local transaction. Throws DecidedException: roll back, and do not try again. */
    public static void barrier(Connection tx, String gid) throws SQLException {
        try (PreparedStatement insert = tx.prepareStatement("INSERT INTO half_barrier (gid) VALUES (?)")) {
            insert.setString(1, gid);
            insert.executeUpdate();
        } catch (SQLException e) {
            if (Errors.code(e) == Errors.DUPLICATE) {
                throw new DecidedException(gid, e);
            }
            throw e;
        }
    }

    /**
     * What became of the local transaction: "committed", "rolled_back" (and it stays so), or "in_progress". Uses {@code tx}, which
     * must not be in a transaction, with autocommit.
     */
    public static String check(Connection tx, String gid) throws SQLException {
        tx.setAutoCommit(true);
        try (Statement session = tx.createStatement()) {
            session.execute("SET @rowpost_wait = @@SESSION.innodb_lock_wait_timeout, SESSION innodb_lock_wait_timeout = 1");
            try {
                return decide(tx, gid);
            } finally {
                session.execute("SET SESSION innodb_lock_wait_timeout = @rowpost_wait");
            }
        }
    }

    private static String decide(Connection tx, String gid) throws SQLException {
        try (PreparedStatement insert = tx.prepareStatement("INSERT INTO half_barrier (gid, reason) VALUES (?, 'rollback')")) {
            insert.setString(1, gid);
            insert.executeUpdate();
            return "rolled_back";
        } catch (SQLException e) {
            if (Errors.code(e) == Errors.LOCK_TIMEOUT) {
                return "in_progress";
            }
            if (Errors.code(e) != Errors.DUPLICATE) {
                throw e;
            }
        }
        try (PreparedStatement select = tx.prepareStatement("SELECT reason FROM half_barrier WHERE gid = ? AND branch = '' AND op = 'msg'")) {
            select.setString(1, gid);
            try (ResultSet row = select.executeQuery()) {
                return row.next() && row.getString(1).equals("commit") ? "committed" : "rolled_back";
            }
        }
    }

    /** The check address for the JDK's HTTP server: GET ?gid=GID with the bearer token of the relay's [producer] section. */
    public static HttpHandler checkHandler(DataSource source, String token) {
        byte[] wanted = ("Bearer " + token).getBytes(StandardCharsets.UTF_8);
        return exchange -> {
            try (exchange) {
                String given = Objects.requireNonNullElse(exchange.getRequestHeaders().getFirst("Authorization"), "");
                String query = Objects.requireNonNullElse(exchange.getRequestURI().getRawQuery(), "");
                if (!MessageDigest.isEqual(wanted, given.getBytes(StandardCharsets.UTF_8))) {
                    answer(exchange, 401, "{}");
                } else if (!query.matches("gid=[^&]{1,384}")) {
                    answer(exchange, 400, "{}");
                } else {
                    answerCheck(exchange, source, URLDecoder.decode(query.substring(4), StandardCharsets.UTF_8));
                }
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        };
    }

    private static void answerCheck(HttpExchange exchange, DataSource source, String gid) throws IOException {
        String state;
        try (Connection tx = source.getConnection()) {
            state = check(tx, gid);
        } catch (SQLException e) {
            answer(exchange, 503, "{}"); // no answer that counts: the relay asks again
            return;
        }
        answer(exchange, 200, "{\"state\":\"" + state + "\"}");
    }

    private static void answer(HttpExchange exchange, int status, String json) throws IOException {
        byte[] body = json.getBytes(StandardCharsets.UTF_8);
        exchange.getResponseHeaders().set("Content-Type", "application/json");
        exchange.sendResponseHeaders(status, body.length);
        exchange.getResponseBody().write(body);
    }
}
