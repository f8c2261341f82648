// What every guest of this folder needs: the bindings are those of C, and here is what makes them safe to use from C++.
//
// What an import returns, and what an export is given, is the guest's to free: `Owned` and `Handle` do it. What an import
// is passed stays the guest's, and is never changed: `Bytes`, `Text` and `Column` lend memory of C++. What an export
// returns is freed by the bindings: `given` makes it.
//
// The toolchain has no exceptions: a guest that cannot go on calls `fail`, and so does the standard library in its own way.

#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "task.h"

// Any bytes, not only text, that may be there or not.
using MaybeBytes = std::optional<std::string>;
using MaybeView = std::optional<std::string_view>;

// Writes the place and a message to standard error, whose end becomes a part of the job's error, and traps.
[[noreturn]] void fail(std::string_view message, std::source_location where = std::source_location::current());

// A record or list of the bindings, with its `_free` function.
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

// A handle of the bindings, with its `_drop_own` function.
template <auto drop> class Handle;
template <typename T, void (*drop)(T)> class Handle<drop> {
public:
    explicit Handle(T handle) : handle_(handle) {}
    Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, std::nullopt)) {}
    Handle &operator=(Handle &&other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~Handle() {
        if (handle_)
            drop(*handle_);
    }

    T operator*() const { return *handle_; }

private:
    std::optional<T> handle_;
};

using Store = Handle<state_store_drop_own>;
using Cursor = Handle<state_cursor_drop_own>;

// Opens a store that the job must have.
Store open_store(std::string_view name);

// A list of the bindings that lends its elements from C++, whether they are the bytes of a string or a vector's.
template <typename List> List lent(std::string_view bytes) {
    return {reinterpret_cast<std::uint8_t *>(const_cast<char *>(bytes.data())), bytes.size()};
}
template <typename List, typename T> List lent(std::vector<T> &elements) {
    return {elements.data(), elements.size()};
}

// Packed numbers, lent: they have the byte order of WebAssembly.
template <typename Number> task_list_u8_t lent_packed(const std::vector<Number> &numbers) {
    return lent<task_list_u8_t>({reinterpret_cast<const char *>(numbers.data()), numbers.size() * sizeof(Number)});
}

// The same as an argument of an import, which takes a pointer: `metrics_counter_add(Text(name), 1)`.
template <typename List> class Argument {
public:
    explicit Argument(std::string_view bytes) : list_(lent<List>(bytes)) {}
    operator List *() { return &list_; }

private:
    List list_;
};
using Bytes = Argument<task_list_u8_t>;
using Text = Argument<task_string_t>;

// Perhaps bytes, lent.
task_option_list_u8_t lent_maybe(MaybeView bytes);

// A copy that the bindings will free, or `Owned`.
template <typename List> List given(std::string_view bytes) {
    task_string_t copy;
    task_string_dup_n(&copy, bytes.data(), bytes.size());
    return {copy.ptr, copy.len};
}
template <typename List, typename T> List given(const std::vector<T> &elements) {
    // The bindings' copy of nothing is at address 1, which is not aligned as a list of records must be.
    if (elements.empty())
        return {};
    auto copy = given<task_list_u8_t>({reinterpret_cast<const char *>(elements.data()), elements.size() * sizeof(T)});
    return {reinterpret_cast<T *>(copy.ptr), elements.size()};
}

// A string or list of the bindings as C++ has it.
template <typename List> std::string_view view(const List &list) {
    return {reinterpret_cast<const char *>(list.ptr), list.len};
}
MaybeView view_maybe(const task_option_list_u8_t &bytes);

// A column that grows.
class Column {
public:
    void push_back(MaybeView entry);
    std::size_t size() const { return ends_.size(); }
    // Whether no entry is there.
    bool is_absent() const { return absent_.size() == ends_.size(); }
    // As the bindings have it; lent.
    types_bytes_column_t lend();

private:
    std::vector<std::uint32_t> ends_;
    std::string data_;
    std::vector<std::uint32_t> absent_;
};

// A packed number of the bindings. It may lie at any address, and a pointer to it may not: hence the copy, which costs nothing.
template <typename Number> Number number_at(const task_list_u8_t &packed, std::size_t index) {
    Number number;
    std::memcpy(&number, packed.ptr + index * sizeof number, sizeof number);
    return number;
}

// The number of entries of a column of the bindings, and an entry.
std::size_t size(const types_bytes_column_t &column);
MaybeView entry(const types_bytes_column_t &column, std::size_t index);
