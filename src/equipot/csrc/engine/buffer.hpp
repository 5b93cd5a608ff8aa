// Memory that only grows: nothing is allocated in a step that is no larger than those before it.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace eq {

constexpr std::size_t large_page = std::size_t{1} << 21;

template <class T>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept : data_(other.data_), capacity_(other.capacity_) { other.data_ = nullptr, other.capacity_ = 0; }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { std::free(data_); }

  // At least n numbers, 64-byte aligned, never null; what was there is lost where it grows.
  T* reserve(int64_t n) {
    if (data_ && n <= capacity_) return data_;
    std::free(data_);
    data_ = nullptr, capacity_ = 0;
    const int64_t room = n + n / 8 + 16;
    void* p = nullptr;
    const size_t size = static_cast<size_t>(room) * sizeof(T);
    const bool large = size >= 4 * large_page;
    if (posix_memalign(&p, large ? large_page : 64, size) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (large) madvise(p, size, MADV_HUGEPAGE);  // rows are read all over it: with small pages most of the time would go into finding them
#endif
    data_ = static_cast<T*>(p), capacity_ = room;
    return data_;
  }
  int64_t bytes() const { return capacity_ * static_cast<int64_t>(sizeof(T)); }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T& operator[](int64_t i) { return data_[i]; }
  const T& operator[](int64_t i) const { return data_[i]; }

 private:
  T* data_ = nullptr;
  int64_t capacity_ = 0;
};

}  // namespace eq
