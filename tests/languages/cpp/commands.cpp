// The commands of the conformance guest. Each is a function that reads its words, calls the import, and returns its result.

#include "commands.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>

#include "notation.hpp"

namespace {

// A message whose commands are being carried out.
class Run {
public:
    const Message &message;
    Outcome outcome;

    explicit Run(const Message &message) : message(message) {}

    // Begins a command.
    void begin(std::string_view command) { words_ = split(command, ' '), next_ = 0; }
    bool has_more() const { return next_ < words_.size(); }
    // The next word of the command, which must have one.
    std::string_view word() {
        if (!has_more())
            fail("a word is missing");
        return words_[next_++];
    }

private:
    std::vector<std::string_view> words_;
    std::size_t next_ = 0;
};

// Cursors that are kept under a name, also after the message.
std::map<std::string, Cursor, std::less<>> kept;

// Reading words

// One of two words; true if it is the second.
bool read_choice(Run &run, std::string_view no, std::string_view yes) {
    std::string_view choice = run.word();
    if (choice != no && choice != yes)
        fail(std::string(choice) + " is neither " + std::string(no) + " nor " + std::string(yes));
    return choice == yes;
}

// The bounds of a range.
struct Bounds {
    MaybeBytes start, end;

    explicit Bounds(Run &run) : start(read_maybe_bytes(run.word())), end(read_maybe_bytes(run.word())) {}
    state_range_t lend() const { return {lent_maybe(start), lent_maybe(end)}; }
};

// Store, bounds, order, and what of the entries.
Cursor read_scan(Run &run) {
    Store store = open_store(run.word());
    Bounds bounds(run);
    state_range_t range = bounds.lend();
    state_scan_options_t options;
    options.reverse = read_choice(run, "up", "down");
    options.keys_only = read_choice(run, "entries", "keys");
    return Cursor(state_method_store_scan(state_borrow_store(*store), &range, &options));
}

auto read_kept(Run &run) {
    std::string_view name = run.word();
    auto found = kept.find(name);
    if (found == kept.end())
        fail("there is no cursor " + std::string(name));
    return found;
}

// A number that may be absent.
template <typename Number> std::optional<Number> read_maybe_number(std::string_view word) {
    return word == "~" ? std::nullopt : std::optional(read_number<Number>(word));
}

// What the task is told

std::string see(Run &run) {
    const Message &message = run.message;
    std::string headers;
    for (const auto &[name, value] : message.headers)
        headers += (headers.empty() ? "" : ",") + std::string(name) + "=" + show(value);
    return "see input=" + std::to_string(message.input) + " partition=" + std::to_string(message.partition) +
           " offset=" + std::to_string(message.offset) + " timestamp=" + std::to_string(message.timestamp) +
           " key=" + show(message.key) + " value=" + show(message.value) + " headers=" + (headers.empty() ? "-" : headers);
}

// A text that an import returns.
std::string text_of(void (*get)(task_string_t *)) {
    Owned<task_string_free> text;
    get(text.out());
    return std::string(view(*text));
}

std::string context(Run &) {
    constexpr std::array<std::string_view, 3> kinds{"partitioned", "broadcast", "other"};
    Owned<context_list_input_free> inputs;
    context_inputs(inputs.out());
    std::string shown;
    for (std::size_t i = 0; i < inputs->len; i++) {
        const context_input_t &input = inputs->ptr[i];
        shown += (i > 0 ? "," : "") + std::string(view(input.port)) + ":" + std::string(kinds[input.kind.tag]);
    }
    return "context job=" + text_of(context_job) + " stage=" + text_of(context_stage) + " task=" + text_of(context_task) +
           " partition=" + std::to_string(context_partition()) + " partitions=" + std::to_string(context_partitions()) +
           " inputs=" + shown + " version=" + std::to_string(text_of(context_component_version).size());
}

std::string now(Run &) {
    std::int64_t now = context_now_ms();
    return now == context_now_ms() && now > 1600000000000 ? "now same" : "now differs";
}

std::string show_opened(Run &) {
    return "opened " + std::to_string(opened);
}

std::string config(Run &run) {
    Owned<task_option_string_free> value;
    Owned<config_error_free> error;
    if (!config_get(Text(run.word()), value.out(), error.out()))
        fail("the configuration cannot be read");
    return "config " + std::string(value->is_some ? view(value->val) : "~");
}

std::string config_all(Run &) {
    Owned<task_list_tuple2_string_string_free> all;
    Owned<config_error_free> error;
    if (!config_get_all(all.out(), error.out()))
        fail("the configuration cannot be read");
    std::map<std::string_view, std::string_view> sorted;
    for (std::size_t i = 0; i < all->len; i++)
        sorted.emplace(view(all->ptr[i].f0), view(all->ptr[i].f1));
    std::string shown;
    for (const auto &[name, value] : sorted)
        shown += (shown.empty() ? " " : ",") + std::string(name) + "=" + std::string(value);
    return "config-all" + shown;
}

// State

std::string open(Run &run) {
    state_own_store_t store;
    Owned<state_open_error_free> error;
    if (!state_static_store_open(Text(run.word()), &store, error.out()))
        return error->tag == STATE_OPEN_ERROR_NO_SUCH_STORE ? "open no-such-store" : "open other";
    state_store_drop_own(store);
    return "open ok";
}

std::string get(Run &run) {
    Store store = open_store(run.word());
    std::string key = read_bytes(run.word());
    Owned<task_option_list_u8_free> value;
    value.out()->is_some = state_method_store_get(state_borrow_store(*store), Bytes(key), &value.out()->val);
    return "get " + show(view_maybe(*value));
}

std::string put_with(Run &run, state_put_options_t *options) {
    Store store = open_store(run.word());
    std::string key = read_bytes(run.word());
    std::string value = read_bytes(run.word());
    state_method_store_put(state_borrow_store(*store), Bytes(key), Bytes(value), options);
    return "put";
}

std::string put(Run &run) {
    return put_with(run, nullptr);
}

std::string put_options(Run &run) {
    state_put_options_t options{};
    return put_with(run, &options);
}

std::string delete_(Run &run) {
    Store store = open_store(run.word());
    state_method_store_delete(state_borrow_store(*store), Bytes(read_bytes(run.word())));
    return "delete";
}

std::string increment(Run &run) {
    Store store = open_store(run.word());
    std::string key = read_bytes(run.word());
    auto by = read_number<std::int64_t>(run.word());
    return "increment " + std::to_string(state_method_store_increment(state_borrow_store(*store), Bytes(key), by));
}

std::string get_many(Run &run) {
    Store store = open_store(run.word());
    Column keys;
    while (run.has_more())
        keys.push_back(read_bytes(run.word()));
    types_bytes_column_t lent = keys.lend();
    Owned<types_bytes_column_free> values;
    state_method_store_get_many(state_borrow_store(*store), &lent, values.out());
    std::string result = "get-many";
    for (std::size_t i = 0; i < size(*values); i++)
        result += " " + show(entry(*values, i));
    return result;
}

std::string put_many(Run &run) {
    Store store = open_store(run.word());
    Column keys, values;
    while (run.has_more()) {
        auto [key, value] = cut(run.word(), '=');
        keys.push_back(read_bytes(key));
        values.push_back(read_maybe_bytes(value));
    }
    types_bytes_column_t lent_keys = keys.lend(), lent_values = values.lend();
    state_method_store_put_many(state_borrow_store(*store), &lent_keys, &lent_values, nullptr);
    return "put-many";
}

std::string delete_range(Run &run) {
    Store store = open_store(run.word());
    Bounds bounds(run);
    state_range_t range = bounds.lend();
    state_method_store_delete_range(state_borrow_store(*store), &range);
    return "delete-range";
}

// The next entries of a cursor; nothing at the end.
std::string show_next(const Cursor &cursor, std::uint32_t max_entries, std::uint32_t max_bytes) {
    Owned<state_entries_free> entries;
    state_method_cursor_next(state_borrow_cursor(*cursor), max_entries, max_bytes, entries.out());
    bool has_values = size(entries->values) > 0;
    std::string shown;
    for (std::size_t i = 0; i < size(entries->keys); i++) {
        shown += " " + show(entry(entries->keys, i));
        if (has_values)
            shown += "=" + show(entry(entries->values, i));
    }
    return shown;
}

std::string scan(Run &run) {
    Cursor cursor = read_scan(run);
    auto max_entries = read_number<std::uint32_t>(run.word());
    auto max_bytes = read_number<std::uint32_t>(run.word());
    std::string result = "scan", shown;
    do {
        shown = show_next(cursor, max_entries, max_bytes);
        result += shown;
    } while (!shown.empty());
    return result;
}

std::string keep_cursor(Run &run) {
    std::string name(run.word());
    kept.insert_or_assign(std::move(name), read_scan(run));
    return "cursor";
}

std::string next(Run &run) {
    const Cursor &cursor = read_kept(run)->second;
    auto max_entries = read_number<std::uint32_t>(run.word());
    auto max_bytes = read_number<std::uint32_t>(run.word());
    return "next" + show_next(cursor, max_entries, max_bytes);
}

std::string drop(Run &run) {
    kept.erase(read_kept(run));
    return "drop";
}

// Output

std::string send(Run &run) {
    std::string_view port = run.word();
    MaybeBytes key = read_maybe_bytes(run.word());
    MaybeBytes value = read_maybe_bytes(run.word());
    auto timestamp = read_maybe_number<std::int64_t>(run.word());
    auto partition = read_maybe_number<std::uint32_t>(run.word());
    std::vector<std::pair<std::string, MaybeBytes>> headers;
    while (run.has_more()) {
        auto [name, header] = cut(run.word(), '=');
        headers.emplace_back(read_text(name), read_maybe_bytes(header));
    }
    std::vector<types_header_t> lent_headers;
    for (const auto &[name, header] : headers)
        lent_headers.push_back({lent<task_string_t>(name), lent_maybe(header)});
    types_outgoing_t message{
        .key = lent_maybe(key),
        .value = lent_maybe(value),
        .headers = lent<types_list_header_t>(lent_headers),
        .timestamp = {timestamp.has_value(), timestamp.value_or(0)},
        .partition = {partition.has_value(), partition.value_or(0)},
    };
    output_send(Text(port), &message);
    return "send";
}

std::string send_many(Run &run) {
    std::string_view port = run.word(), timestamps_word = run.word(), partitions_word = run.word();
    std::vector<std::int64_t> timestamps;
    if (timestamps_word != "~")
        timestamps = read_numbers<std::int64_t>(timestamps_word);
    std::vector<std::uint32_t> partitions, header_ends;
    bool has_partitions = partitions_word != "~";
    if (has_partitions)
        partitions = read_numbers<std::uint32_t>(partitions_word);

    Column keys, values, header_names, header_values;
    while (run.has_more()) {
        std::vector<std::string_view> parts = split(run.word(), ',');
        auto [key, value] = cut(parts.front(), '=');
        keys.push_back(read_maybe_bytes(key));
        values.push_back(read_maybe_bytes(value));
        for (std::size_t i = 1; i < parts.size(); i++) {
            auto [name, header] = cut(parts[i], '=');
            header_names.push_back(read_text(name));
            header_values.push_back(read_maybe_bytes(header));
        }
        header_ends.push_back(header_names.size());
    }
    types_headers_column_t headers{lent_packed(header_ends), header_names.lend(), header_values.lend()};
    types_messages_t messages{
        .keys = {!keys.is_absent(), keys.lend()},
        .values = values.lend(),
        .timestamps = lent_packed(timestamps),
        .headers = {header_names.size() > 0, headers},
    };
    task_list_u8_t lent_partitions = lent_packed(partitions);
    output_send_many(Text(port), &messages, has_partitions ? &lent_partitions : nullptr);
    return "send-many";
}

// How a message ends

std::string err(Run &run) {
    run.outcome = {Outcome::err, read_text(run.word()), std::nullopt};
    return "";
}

std::string reject(Run &run) {
    std::string reason = read_text(run.word());
    run.outcome = {Outcome::rejected, reason, read_maybe_bytes(run.word())};
    return "";
}

std::string trap(Run &run) {
    fail(read_text(run.word()));
}

// Lines, figures, requests

std::string log(Run &run) {
    // In the order of the bindings' constants.
    constexpr std::array<std::string_view, 6> levels{"trace", "debug", "info", "warn", "error", "critical"};
    auto level = std::ranges::find(levels, run.word());
    if (level == levels.end())
        fail("there is no such level");
    std::string about = read_text(run.word());
    std::string text = read_text(run.word());
    logging_log(level - levels.begin(), Text(about), Text(text));
    return "log";
}

std::string print(Run &run) {
    std::string text = read_text(run.word());
    std::puts(text.c_str());
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", text.c_str());
    return "print";
}

std::string counter(Run &run) {
    Text name(run.word());
    metrics_counter_add(name, read_number<std::uint64_t>(run.word()));
    return "counter";
}

std::string gauge(Run &run) {
    Text name(run.word());
    metrics_gauge_set(name, read_number<std::int64_t>(run.word()));
    return "gauge";
}

std::string histogram(Run &run) {
    Text name(run.word());
    metrics_histogram_record(name, read_number<std::int64_t>(run.word()));
    return "histogram";
}

std::string checkpoint(Run &) {
    context_request_checkpoint();
    return "checkpoint";
}

std::string stop(Run &run) {
    context_request_stop(Text(read_text(run.word())));
    return "stop";
}

const std::map<std::string_view, std::string (*)(Run &)> commands{
    {"see", see},
    {"context", context},
    {"now", now},
    {"open", open},
    {"get", get},
    {"put", put},
    {"put-options", put_options},
    {"delete", delete_},
    {"increment", increment},
    {"get-many", get_many},
    {"put-many", put_many},
    {"delete-range", delete_range},
    {"scan", scan},
    {"cursor", keep_cursor},
    {"next", next},
    {"drop", drop},
    {"send", send},
    {"send-many", send_many},
    {"err", err},
    {"reject", reject},
    {"trap", trap},
    {"log", log},
    {"print", print},
    {"counter", counter},
    {"gauge", gauge},
    {"histogram", histogram},
    {"config", config},
    {"config-all", config_all},
    {"checkpoint", checkpoint},
    {"stop", stop},
    {"opened", show_opened},
};

// The commands of a message: the first line of its value.
std::string_view script_of(const Message &message) {
    std::string_view value = message.value.value_or("");
    return value.empty() ? "see" : value.substr(0, value.find('\n'));
}

} // namespace

Outcome carry_out(const Message &message) {
    Run run(message);
    std::string results;
    for (std::string_view command : split(script_of(message), ';')) {
        run.begin(command);
        std::string_view name = run.word();
        auto found = commands.find(name);
        if (found == commands.end())
            fail("there is no command " + std::string(name));
        results += (results.empty() ? "" : "; ") + found->second(run);
        if (run.outcome.how != Outcome::done)
            return run.outcome;
    }
    send_result(results);
    return run.outcome;
}

void send_result(std::string_view text) {
    types_outgoing_t message{.value = lent_maybe(text)};
    output_send(Text("results"), &message);
}
