// Threads that share the work of one call. What is computed never depends on which thread takes which piece.
#pragma once

#include <cstdint>

namespace quantmill {

// How a piece's floating point behaves; the thread's own state is put back afterwards. Either way to nearest, halves to even.
enum class Mode { ieee, flush };  // flush: denormal operands and results are zeros

// Calls work(context, 0 .. count - 1) from up to `threads` threads, this one among them, and returns when all is done. `work`
// must not throw. The threads wait for the next call in between, and a forked child starts its own.
void share(int threads, std::int64_t count, Mode mode, void (*work)(const void *context, std::int64_t piece), const void *context);

template <class Work>
void parallel(int threads, std::int64_t count, Mode mode, const Work &work) {
    share(threads, count, mode, [](const void *context, std::int64_t piece) { (*static_cast<const Work *>(context))(piece); }, &work);
}

// Calls work(first, last) for ranges that together are [0, count); `least` is the smallest range worth a thread.
template <class Work>
void parallel_ranges(int threads, std::int64_t count, std::int64_t least, const Work &work) {
    std::int64_t pieces = count / (least > 0 ? least : 1);
    if (pieces > 4 * std::int64_t(threads)) pieces = 4 * std::int64_t(threads);
    if (pieces < 1) pieces = 1;
    parallel(threads, count ? pieces : 0, Mode::ieee,
             [&](std::int64_t piece) { work(count * piece / pieces, count * (piece + 1) / pieces); });
}

}  // namespace quantmill
