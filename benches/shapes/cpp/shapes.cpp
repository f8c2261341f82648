// The counter in every shape of wit/shapes.wit, on the C bindings of wit-bindgen.
//
// WebAssembly is little-endian, so a column and a packed column look the same in memory: one class reads both.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "shapes.h"

namespace {

// What the counter needs of a message. It lies in the arguments of the call.
struct Message {
    std::string_view key, value;
    std::uint64_t offset;
    std::int64_t timestamp;

    std::uint64_t first_byte() const { return value.empty() ? 0 : static_cast<std::uint8_t>(value.front()); }
    std::uint64_t touch() const { return key.size() + first_byte() + offset + static_cast<std::uint64_t>(timestamp); }
};

// The state of a key, as it is stored.
struct State {
    std::uint64_t count = 0, sum = 0, max = 0;

    // From an entry, which is empty where a key has none.
    static State read(std::string_view entry) {
        State state;
        if (entry.size() == sizeof state)
            std::memcpy(&state, entry.data(), sizeof state);
        return state;
    }

    void add(const Message &message) {
        count++;
        sum += message.first_byte();
        max = std::max(max, message.first_byte());
    }

    std::string_view bytes() const { return {reinterpret_cast<const char *>(this), sizeof *this}; }
};

// A record of the bindings that belongs to the guest, with its `_free` function.
template <auto free> class Owned;
template <typename T, void (*free)(T *)> class Owned<free> {
public:
    Owned() = default;
    explicit Owned(T value) : value_(value) {}
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { free(&value_); }

    // For an import to write to.
    T *out() { return &value_; }
    const T &operator*() const { return value_; }
    const T *operator->() const { return &value_; }

private:
    T value_{};
};

// The memory of a string or list of the bindings.
template <typename List> std::string_view view(const List &list) {
    return {reinterpret_cast<const char *>(list.ptr), list.len * sizeof *list.ptr};
}

// Bytes that are lent to the bindings, which do not write to them.
shapes_list_u8_t lent(std::string_view bytes) {
    return {reinterpret_cast<std::uint8_t *>(const_cast<char *>(bytes.data())), bytes.size()};
}

shapes_string_t port = {reinterpret_cast<std::uint8_t *>(const_cast<char *>("out")), 3};

// A number of packed ones, at any address.
template <typename Number> Number number_at(std::string_view packed, std::size_t index) {
    Number number;
    std::memcpy(&number, packed.data() + index * sizeof number, sizeof number);
    return number;
}

// The entries of a column of either kind. What is absent is empty, which means the same to the counter.
class Entries {
public:
    template <typename Column> explicit Entries(const Column &column) : ends_(view(column.ends)), data_(view(column.data)) {}

    std::size_t size() const { return ends_.size() / sizeof(std::uint32_t); }
    std::string_view operator[](std::size_t index) const {
        auto start = index == 0 ? 0 : number_at<std::uint32_t>(ends_, index - 1);
        return data_.substr(start, number_at<std::uint32_t>(ends_, index) - start);
    }

private:
    std::string_view ends_, data_;
};

// The messages of a batch of either kind.
class Batch {
public:
    template <typename Given>
    explicit Batch(const Given &batch)
        : keys_(batch.messages.keys.val), values_(batch.messages.values), offsets_(view(batch.offsets)),
          timestamps_(view(batch.messages.timestamps)) {}

    std::size_t size() const { return keys_.size(); }
    Message operator[](std::size_t index) const {
        return {keys_[index], values_[index], number_at<std::uint64_t>(offsets_, index),
                number_at<std::int64_t>(timestamps_, index)};
    }

private:
    Entries keys_, values_;
    std::string_view offsets_, timestamps_;
};

// The messages of a list of rows.
class Rows {
public:
    explicit Rows(const exports_rows_list_message_t &rows) : rows_(rows) {}

    std::size_t size() const { return rows_.len; }
    Message operator[](std::size_t index) const { return of(rows_.ptr[index]); }

    static Message of(const types_message_t &row) {
        return {view(row.key.val), view(row.value.val), row.offset, row.timestamp};
    }

private:
    const exports_rows_list_message_t &rows_;
};

template <typename Messages> std::uint64_t touch(const Messages &messages) {
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < messages.size(); i++)
        sum += messages[i].touch();
    return sum;
}

// Counts a message by itself.
void count(const Message &message) {
    State state;
    auto key = lent(message.key);
    if (shapes_list_u8_t entry; store_get(&key, &entry)) {
        state = State::read(view(entry));
        shapes_list_u8_free(&entry);
    }
    state.add(message);
    auto after = lent(state.bytes());
    store_put(&key, &after);

    std::string sent(message.key);
    sent += state.bytes();
    store_outgoing_t outgoing{.key = {true, key}, .value = {true, lent(sent)}};
    store_send(&port, &outgoing);
}

template <typename Messages> void count_each(const Messages &messages) {
    for (std::size_t i = 0; i < messages.size(); i++)
        count(messages[i]);
}

// A list of the bindings that is lent numbers: whole ones, or their bytes.
template <typename List, typename Number> List lent(std::vector<Number> &numbers) {
    using Element = std::remove_pointer_t<decltype(List::ptr)>;
    return {reinterpret_cast<Element *>(numbers.data()), numbers.size() * sizeof(Number) / sizeof(Element)};
}

// A column of the bindings, of either kind, that is lent ends and data.
template <typename Column> Column lent(std::vector<std::uint32_t> &ends, std::string_view data) {
    return {.ends = lent<decltype(Column::ends)>(ends), .data = lent(data), .absent = {}};
}

// What the messages of a call lead to: an entry for each in `states` and `sent`.
struct Counted {
    std::vector<State> states;
    std::vector<std::uint32_t> state_ends, sent_ends;
    std::string sent;

    // A key that repeats goes on from where it was; at its first message from what is stored.
    template <typename Messages> Counted(const Messages &messages, const Entries &stored) {
        std::unordered_map<std::string_view, State> latest;
        latest.reserve(messages.size());
        states.reserve(messages.size());
        state_ends.reserve(messages.size());
        sent_ends.reserve(messages.size());
        for (std::size_t i = 0; i < messages.size(); i++) {
            Message message = messages[i];
            auto [known, is_first] = latest.try_emplace(message.key);
            State &state = known->second;
            if (is_first)
                state = State::read(stored[i]);
            state.add(message);
            states.push_back(state);
            state_ends.push_back(states.size() * sizeof state);
            sent += message.key;
            sent += state.bytes();
            sent_ends.push_back(sent.size());
        }
    }

    template <typename Column> Column states_as() {
        return lent<Column>(state_ends, {reinterpret_cast<const char *>(states.data()), states.size() * sizeof(State)});
    }
};

// Counts messages with one read, one write and one send.
template <typename Messages> void count_columns(const Messages &messages, store_bytes_column_t keys) {
    Owned<store_bytes_column_free> stored;
    store_get_many(&keys, stored.out());
    Counted counted(messages, Entries(*stored));
    auto states = counted.states_as<store_bytes_column_t>();
    store_put_many(&keys, &states);
    store_messages_t sent{.keys = {true, keys}, .values = lent<store_bytes_column_t>(counted.sent_ends, counted.sent)};
    store_send_many(&port, &sent, nullptr);
}

void count_packed(const Batch &messages, store_packed_column_t keys) {
    Owned<store_packed_column_free> stored;
    store_get_many_packed(&keys, stored.out());
    Counted counted(messages, Entries(*stored));
    auto states = counted.states_as<store_packed_column_t>();
    store_put_many_packed(&keys, &states);
    store_packed_messages_t sent{.keys = {true, keys},
                                 .values = lent<store_packed_column_t>(counted.sent_ends, counted.sent)};
    store_send_many_packed(&port, &sent, nullptr);
}

} // namespace

std::uint64_t exports_one_touch(exports_one_message_t *message) {
    Owned<exports_one_message_free> row(*message);
    return Rows::of(*row).touch();
}

void exports_one_count_single(exports_one_message_t *message) {
    Owned<exports_one_message_free> row(*message);
    count(Rows::of(*row));
}

std::uint64_t exports_rows_touch(exports_rows_list_message_t *messages) {
    Owned<exports_rows_list_message_free> rows(*messages);
    return touch(Rows(*rows));
}

void exports_rows_count_single(exports_rows_list_message_t *messages) {
    Owned<exports_rows_list_message_free> rows(*messages);
    count_each(Rows(*rows));
}

void exports_rows_count_many(exports_rows_list_message_t *messages) {
    Owned<exports_rows_list_message_free> rows(*messages);
    std::vector<std::uint32_t> ends;
    std::string keys;
    for (std::size_t i = 0; i < rows->len; i++) {
        keys += Rows(*rows)[i].key;
        ends.push_back(keys.size());
    }
    count_columns(Rows(*rows), lent<store_bytes_column_t>(ends, keys));
}

std::uint64_t exports_columns_touch(exports_columns_batch_t *messages) {
    Owned<exports_columns_batch_free> batch(*messages);
    return touch(Batch(*batch));
}

void exports_columns_count_single(exports_columns_batch_t *messages) {
    Owned<exports_columns_batch_free> batch(*messages);
    count_each(Batch(*batch));
}

void exports_columns_count_many(exports_columns_batch_t *messages) {
    Owned<exports_columns_batch_free> batch(*messages);
    count_columns(Batch(*batch), batch->messages.keys.val);
}

std::uint64_t exports_packed_touch(exports_packed_packed_batch_t *messages) {
    Owned<exports_packed_packed_batch_free> batch(*messages);
    return touch(Batch(*batch));
}

void exports_packed_count_single(exports_packed_packed_batch_t *messages) {
    Owned<exports_packed_packed_batch_free> batch(*messages);
    count_each(Batch(*batch));
}

void exports_packed_count_many(exports_packed_packed_batch_t *messages) {
    Owned<exports_packed_packed_batch_free> batch(*messages);
    count_packed(Batch(*batch), batch->messages.keys.val);
}
