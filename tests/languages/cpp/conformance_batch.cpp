// The conformance guest, a batch at a time.

#include "commands.hpp"

namespace {

Message message_at(const types_batch_t &batch, std::size_t index) {
    const types_messages_t &messages = batch.messages;
    Message message{
        .input = batch.input,
        .partition = batch.partition,
        .offset = number_at<std::uint64_t>(batch.offsets, index),
        .timestamp = number_at<std::int64_t>(messages.timestamps, index),
        .key = messages.keys.is_some ? entry(messages.keys.val, index) : std::nullopt,
        .value = entry(messages.values, index),
    };
    if (messages.headers.is_some) {
        const types_headers_column_t &headers = messages.headers.val;
        std::size_t start = index == 0 ? 0 : number_at<std::uint32_t>(headers.ends, index - 1);
        std::size_t end = number_at<std::uint32_t>(headers.ends, index);
        for (std::size_t i = start; i < end; i++)
            message.headers.emplace_back(*entry(headers.names, i), entry(headers.values, i));
    }
    return message;
}

types_rejection_t rejection_of(std::uint32_t index, const Outcome &outcome) {
    types_rejection_t rejection{.index = index, .reason = given<task_string_t>(outcome.reason)};
    if (outcome.detail)
        rejection.detail = {true, given<task_list_u8_t>(*outcome.detail)};
    return rejection;
}

} // namespace

bool exports_batch_handler_process(exports_batch_handler_batch_t *batch, exports_batch_handler_list_rejection_t *ret,
                                   task_string_t *err) {
    Owned<exports_batch_handler_batch_free> owned(*batch);
    std::vector<std::pair<std::uint32_t, Outcome>> rejected;
    for (std::uint32_t i = 0; i < size(owned->messages.values); i++) {
        Outcome outcome = carry_out(message_at(*owned, i));
        if (outcome.how == Outcome::err) {
            *err = given<task_string_t>(outcome.reason);
            return false;
        }
        if (outcome.how == Outcome::rejected)
            rejected.emplace_back(i, std::move(outcome));
    }
    std::vector<types_rejection_t> rejections;
    for (const auto &[index, outcome] : rejected)
        rejections.push_back(rejection_of(index, outcome));
    *ret = given<exports_batch_handler_list_rejection_t>(rejections);
    return true;
}
