import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.state.WindowStore;

/** The same windows and features in Kafka Streams: one aggregate a meter and window, emitted when the window closes. */
public final class StreamsPeer {
    private static final JsonFactory JSON = new JsonFactory();

    public static void main(String[] words) throws Exception {
        Properties given = new Properties();
        for (String word : words) given.put(word.substring(0, word.indexOf('=')), word.substring(word.indexOf('=') + 1));
        long slideMs = Long.parseLong(given.getProperty("slideMs"));
        TimeWindows windows = TimeWindows
            .ofSizeAndGrace(
                Duration.ofMillis(Long.parseLong(given.getProperty("windowMs"))),
                Duration.ofMillis(Long.parseLong(given.getProperty("graceMs"))))
            .advanceBy(Duration.ofMillis(slideMs));

        Properties config = new Properties();
        config.put("application.id", given.getProperty("out"));
        config.put("bootstrap.servers", given.getProperty("bootstrap"));
        config.put("num.stream.threads", 2);
        config.put("state.dir", given.getProperty("folder"));
        config.put("auto.offset.reset", "earliest");
        config.put("statestore.cache.max.bytes", 64L << 20);
        // By default closed windows are looked for once a second, and only when a record comes: the last record of a
        // topic would then close nothing.
        config.put(StreamsConfig.InternalConfig.EMIT_INTERVAL_MS_KSTREAMS_WINDOWED_AGGREGATION, 0L);

        StreamsBuilder builder = new StreamsBuilder();
        builder
            .stream(
                given.getProperty("topic"),
                Consumed.with(Serdes.String(), Serdes.serdeFrom((topic, reading) -> null, (topic, bytes) -> parse(bytes)))
                    .withTimestampExtractor((record, before) -> ((Reading) record.value()).eventMs))
            .groupByKey()
            .windowedBy(windows)
            .emitStrategy(EmitStrategy.onWindowClose())
            .aggregate(
                Features::new,
                (meter, reading, features) -> features.add(reading, slideMs),
                Materialized.<String, Features, WindowStore<Bytes, byte[]>>with(
                    Serdes.String(),
                    Serdes.serdeFrom((topic, features) -> features.bytes(), (topic, bytes) -> Features.of(bytes))))
            .toStream()
            .map((window, features) -> org.apache.kafka.streams.KeyValue.pair(
                window.key(), features.flagged(window.key(), window.window().start(), window.window().end(), slideMs)))
            .filter((meter, json) -> json != null)
            .to(given.getProperty("out"), Produced.with(Serdes.String(), Serdes.String()));

        KafkaStreams streams = new KafkaStreams(builder.build(), config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            Runtime.getRuntime().halt(1);
            return null;
        });
        System.out.println("BENCH READY");
        streams.start();
        Thread.currentThread().join();
    }

    /** One reading; null values cannot occur in the load. */
    static final class Reading {
        long eventMs;
        double voltage;
        double current;
        double temperature;
    }

    static Reading parse(byte[] document) {
        Reading reading = new Reading();
        try (JsonParser parser = JSON.createParser(document)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String field = parser.currentName();
                parser.nextToken();
                switch (field) {
                    case "timestamp": reading.eventMs = parser.getLongValue(); break;
                    case "voltage": reading.voltage = parser.getDoubleValue(); break;
                    case "current": reading.current = parser.getDoubleValue(); break;
                    case "temperature": reading.temperature = parser.getDoubleValue(); break;
                    default: parser.skipChildren();
                }
            }
        } catch (IOException broken) {
            throw new UncheckedIOException(broken);
        }
        return reading;
    }

    /** Count, mean, sum of squared distances, least and largest value of a part of a window (Welford, Chan). */
    static final class Part {
        static final int BYTES = 5 * 8;
        long n;
        double mean;
        double squares;
        double min = Double.POSITIVE_INFINITY;
        double max = Double.NEGATIVE_INFINITY;

        void add(double value) {
            double off = value - mean;
            mean += off / ++n;
            squares += off * (value - mean);
            min = Math.min(min, value);
            max = Math.max(max, value);
        }

        void merge(Part other) {
            if (other.n == 0) return;
            double off = other.mean - mean;
            long total = n + other.n;
            squares += other.squares + off * off * n * other.n / total;
            mean += off * other.n / total;
            n = total;
            min = Math.min(min, other.min);
            max = Math.max(max, other.max);
        }

        double std() {
            return n > 1 ? Math.sqrt(squares / (n - 1)) : 0;
        }

        void write(ByteBuffer to) {
            to.putLong(n).putDouble(mean).putDouble(squares).putDouble(min).putDouble(max);
        }

        Part read(ByteBuffer from) {
            n = from.getLong();
            mean = from.getDouble();
            squares = from.getDouble();
            min = from.getDouble();
            max = from.getDouble();
            return this;
        }
    }

    /**
     * The product's feature list. An aggregator is not told its window, so what belongs to the last slide seen is kept
     * apart from what came before it; when the window closes, that slide is its tested part or it has none.
     */
    static final class Features {
        long n;
        long slide;
        long lastMs;
        Part base = new Part();
        Part lastInBand = new Part();
        Part lastPlausible = new Part();
        Part plausible = new Part();
        double maxCurrent = Double.NEGATIVE_INFINITY;
        double minTemperature = Double.POSITIVE_INFINITY;
        double maxTemperature = Double.NEGATIVE_INFINITY;

        Features add(Reading reading, long slideMs) {
            long its = reading.eventMs / slideMs;
            if (its > slide) {
                base.merge(lastInBand);
                lastInBand = new Part();
                lastPlausible = new Part();
                slide = its;
            }
            n++;
            lastMs = Math.max(lastMs, reading.eventMs);
            if (reading.voltage < 0 || reading.voltage > 345 || reading.current < 0) return this;
            plausible.add(reading.voltage);
            boolean inBand = reading.voltage >= 207 && reading.voltage <= 253;
            if (its == slide) lastPlausible.add(reading.voltage);
            if (inBand) (its == slide ? lastInBand : base).add(reading.voltage);
            maxCurrent = Math.max(maxCurrent, reading.current);
            minTemperature = Math.min(minTemperature, reading.temperature);
            maxTemperature = Math.max(maxTemperature, reading.temperature);
            return this;
        }

        /** The window as JSON when its last slide leaves the baseline before it, else null. */
        String flagged(String meter, long startMs, long endMs, long slideMs) {
            Part tested = new Part();
            Part testedInBand = new Part();
            if ((slide + 1) * slideMs == endMs) {
                tested = lastPlausible;
                testedInBand = lastInBand;
            } else {
                base.merge(lastInBand);
            }
            double allowed = Math.max(2.5 * Math.max(base.std(), 1.15), 6.9);
            boolean off = tested.n > 0
                && (Math.abs(tested.max - base.mean) > allowed || Math.abs(tested.min - base.mean) > allowed);
            if (base.n < 8 || !off) return null;
            return String.format(
                Locale.ROOT,
                "{\"meter_id\":\"%s\",\"window_start_ms\":%d,\"window_end_ms\":%d,\"n\":%d,\"base_n\":%d,"
                    + "\"base_mean_v\":%s,\"base_std_v\":%s,\"tested_n\":%d,\"tested_mean_v\":%s,\"tested_std_v\":%s,"
                    + "\"tested_min_v\":%s,\"tested_max_v\":%s,\"plausible_n\":%d,\"mean_v\":%s,\"std_v\":%s,"
                    + "\"min_v\":%s,\"max_v\":%s,\"max_current_a\":%s,\"min_temperature_c\":%s,"
                    + "\"max_temperature_c\":%s,\"last_event_ms\":%d}",
                meter, startMs, endMs, n, base.n, base.mean, base.std(), testedInBand.n, testedInBand.mean,
                testedInBand.std(), tested.min, tested.max, plausible.n, plausible.mean, plausible.std(), plausible.min,
                plausible.max, maxCurrent, minTemperature, maxTemperature, lastMs);
        }

        byte[] bytes() {
            ByteBuffer to = ByteBuffer.allocate(6 * 8 + 4 * Part.BYTES);
            to.putLong(n).putLong(slide).putLong(lastMs);
            to.putDouble(maxCurrent).putDouble(minTemperature).putDouble(maxTemperature);
            for (Part part : new Part[] {base, lastInBand, lastPlausible, plausible}) part.write(to);
            return to.array();
        }

        static Features of(byte[] bytes) {
            if (bytes == null) return null;
            ByteBuffer from = ByteBuffer.wrap(bytes);
            Features features = new Features();
            features.n = from.getLong();
            features.slide = from.getLong();
            features.lastMs = from.getLong();
            features.maxCurrent = from.getDouble();
            features.minTemperature = from.getDouble();
            features.maxTemperature = from.getDouble();
            features.base.read(from);
            features.lastInBand.read(from);
            features.lastPlausible.read(from);
            features.plausible.read(from);
            return features;
        }
    }
}
