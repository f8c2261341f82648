// What every guest of this folder needs; see the header.

#include "guest.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ranges>

void fail(std::string_view message, std::source_location where) {
    std::fprintf(stderr, "%s:%u: %.*s\n", where.file_name(), where.line(), int(message.size()), message.data());
    std::abort();
}

Store open_store(std::string_view name) {
    state_own_store_t store;
    Owned<state_open_error_free> error;
    if (!state_static_store_open(Text(name), &store, error.out()))
        fail("the store " + std::string(name) + " cannot be opened");
    return Store(store);
}

task_option_list_u8_t lent_maybe(MaybeView bytes) {
    return {bytes.has_value(), lent<task_list_u8_t>(bytes.value_or(""))};
}

MaybeView view_maybe(const task_option_list_u8_t &bytes) {
    return bytes.is_some ? MaybeView(view(bytes.val)) : std::nullopt;
}

void Column::push_back(MaybeView entry) {
    if (entry)
        data_ += *entry;
    else
        absent_.push_back(ends_.size());
    ends_.push_back(data_.size());
}

types_bytes_column_t Column::lend() {
    return {lent_packed(ends_), lent<task_list_u8_t>(data_), lent_packed(absent_)};
}

std::size_t size(const types_bytes_column_t &column) {
    return column.ends.len / sizeof(std::uint32_t);
}

MaybeView entry(const types_bytes_column_t &column, std::size_t index) {
    auto places = std::views::iota(std::size_t(0), column.absent.len / sizeof(std::uint32_t));
    auto absent_at = [&](std::size_t place) { return number_at<std::uint32_t>(column.absent, place); };
    if (std::ranges::binary_search(places, index, {}, absent_at))
        return std::nullopt;
    std::size_t start = index == 0 ? 0 : number_at<std::uint32_t>(column.ends, index - 1);
    return view(column.data).substr(start, number_at<std::uint32_t>(column.ends, index) - start);
}
