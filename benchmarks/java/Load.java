import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicReference;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * Fills a topic with readings, in event-time order inside each partition; benchmarks/answers.py computes the same
 * readings by itself.
 *
 * Every meter is read once a cadence, meter m at m / meters of it. A meter is odd for a whole minute at a time, in one
 * minute of a hundred: half of them out of band, half in it but far off the minutes before (Minutes of answers.py says
 * which); `rarer` makes them so many times rarer. With a rate the readings are sent open-loop: the event time of a reading is the moment at which it is due,
 * and it is sent then or, when the broker is slow, later. Without one they are sent as fast as possible, from
 * `startMs` on, and each partition ends with a reading far enough ahead to close all windows.
 */
public final class Load {
    private static final long MINUTE = 60_000;
    private static final int PANES = 5;

    private final String topic;
    private final int partitions;
    private final int meters;
    private final long cadenceMs;
    private final long seed;
    private final long rarer;
    private final byte[][] keys;
    private final byte[] line = new byte[256];
    private final KafkaProducer<byte[], byte[]> producer;
    private long firstMinute;
    private final AtomicReference<Exception> failure = new AtomicReference<>();

    private Load(Properties given) {
        topic = given.getProperty("topic");
        partitions = Integer.parseInt(given.getProperty("partitions"));
        meters = Integer.parseInt(given.getProperty("meters"));
        cadenceMs = Long.parseLong(given.getProperty("cadenceMs"));
        seed = Long.parseLong(given.getProperty("seed"));
        rarer = Long.parseLong(given.getProperty("rarer"));
        keys = new byte[meters][];
        for (int m = 0; m < meters; m++) keys[m] = String.format("m%07d", m).getBytes(StandardCharsets.US_ASCII);
        Properties client = new Properties();
        client.put("bootstrap.servers", given.getProperty("bootstrap"));
        client.put("linger.ms", given.getProperty("lingerMs"));
        client.put("batch.size", given.getProperty("batchBytes"));
        client.put("buffer.memory", 64L << 20);
        client.put("max.request.size", 4 << 20);
        producer = new KafkaProducer<>(client, new ByteArraySerializer(), new ByteArraySerializer());
    }

    public static void main(String[] words) throws Exception {
        Properties given = new Properties();
        for (String word : words) given.put(word.substring(0, word.indexOf('=')), word.substring(word.indexOf('=') + 1));
        Load load = new Load(given);
        long readings = Long.parseLong(given.getProperty("readings"));
        long rate = Long.parseLong(given.getProperty("rate"));
        if (rate > 0) {
            load.paced(readings, rate, Long.parseLong(given.getProperty("stormFrom")));
        } else {
            load.atOnce(readings, Long.parseLong(given.getProperty("startMs")), given.getProperty("closeMs"));
        }
        load.producer.close();
        if (load.failure.get() != null) throw load.failure.get();
    }

    private void atOnce(long readings, long startMs, String closeMs) {
        firstMinute = startMs / MINUTE;
        long shown = System.nanoTime();
        for (long i = 0; i < readings; i++) {
            int meter = (int) (i % meters);
            long eventMs = startMs + i / meters * cadenceMs + meter * cadenceMs / meters;
            send(meter, meter % partitions, keys[meter], eventMs, false);
            if ((i & 0xffff) == 0 && System.nanoTime() - shown > 2_000_000_000L) {
                shown = System.nanoTime();
                System.out.println("sent " + i);
            }
        }
        if (!closeMs.isEmpty()) {
            for (int p = 0; p < partitions; p++) {
                send(meters + p, p, ("closing-" + p).getBytes(StandardCharsets.US_ASCII), Long.parseLong(closeMs), false);
            }
        }
    }

    private void paced(long readings, long rate, long stormFrom) throws InterruptedException {
        long startMs = System.currentTimeMillis();
        firstMinute = startMs / MINUTE;
        System.out.println("start " + startMs);
        for (long i = 0; i < readings; i++) {
            long dueMs = startMs + i * cadenceMs / meters;
            while (System.currentTimeMillis() < dueMs) Thread.sleep(1);
            int meter = (int) (i % meters);
            send(meter, meter % partitions, keys[meter], dueMs, i >= stormFrom);
            if (i % rate == 0) System.out.println("sent " + i);
        }
    }

    private void send(int meter, int partition, byte[] key, long eventMs, boolean storm) {
        long number = eventMs / MINUTE;
        long word = mix(seed * 0x9E3779B97F4A7C15L + meter * 0xD1B54A32D192ED03L + number);
        long dice = mix(word + eventMs);
        boolean turn = (meter + number) % PANES == 0 && number - firstMinute >= PANES - 1;
        int voltage = voltage(word, dice, storm, turn);
        int at = text(0, "{\"meterId\":\"");
        System.arraycopy(key, 0, line, at, key.length);
        at = number(text(at + key.length, "\",\"timestamp\":"), eventMs);
        at = tenths(text(at, ",\"voltage\":"), voltage);
        at = tenths(text(at, ",\"current\":"), 50 + (int) ((dice >>> 3) & 63));
        at = tenths(text(at, ",\"temperature\":"), 150 + (int) ((dice >>> 12) & 127));
        at = text(at, ",\"status\":\"OK\"}");
        byte[] value = java.util.Arrays.copyOf(line, at);
        producer.send(new ProducerRecord<>(topic, partition, key, value), (done, error) -> {
            if (error != null) failure.compareAndSet(null, error);
        });
    }

    /** In tenths of a volt; `turn`: whether the meter may be shifted in this minute. */
    private int voltage(long word, long dice, boolean storm, boolean turn) {
        boolean low = (word & 1) == 0;
        if (storm || (word >>> 33) % (200 * rarer) == 0) return (low ? 1400 : 2800) + (int) ((dice >>> 33) % 400);
        if (turn && (word >>> 33) % (40 * rarer) == 1) return (low ? 2110 : 2430) + (int) ((dice >>> 33) % 60);
        return 2260 + (int) ((dice >>> 33) % 81);
    }

    /** The finaliser of splitmix64. */
    private static long mix(long z) {
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    @SuppressWarnings("deprecation")
    private int text(int at, String words) {
        words.getBytes(0, words.length(), line, at);
        return at + words.length();
    }

    private int tenths(int at, int value) {
        at = number(at, value / 10);
        line[at] = '.';
        line[at + 1] = (byte) ('0' + value % 10);
        return at + 2;
    }

    private int number(int at, long value) {
        int digits = 1;
        for (long rest = value; rest >= 10; rest /= 10) digits++;
        for (int d = at + digits - 1; d >= at; d--, value /= 10) line[d] = (byte) ('0' + value % 10);
        return at + digits;
    }
}
