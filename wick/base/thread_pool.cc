#include "wick/base/thread_pool.h"

#include <fenv.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "wick/base/checked.h"
#include "wick/base/error.h"

namespace wick {
namespace {

constexpr int64_t kMaxIndices = int64_t{1} << 48;  // far above any use, far below any overflow

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void futex_wait(std::atomic<uint32_t>& word, uint32_t expected) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT_PRIVATE, expected, nullptr, nullptr, 0);
}

void futex_wake_all(std::atomic<uint32_t>& word) {
  syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

// Waits until done(word) holds: spinning first, then asleep. `sleepers` tells the other side that a wake-up call is needed.
template <class Done>
uint32_t wait_until(std::atomic<uint32_t>& word, std::atomic<uint32_t>& sleepers, std::chrono::microseconds patience, Done&& done) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  do {
    for (int i = 0; i < 32; ++i) {
      const uint32_t value = word.load(std::memory_order_acquire);
      if (done(value)) return value;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  sleepers.fetch_add(1, std::memory_order_seq_cst);
  uint32_t value;
  while (!done(value = word.load(std::memory_order_seq_cst))) futex_wait(word, value);
  sleepers.fetch_sub(1, std::memory_order_relaxed);
  return value;
}

}  // namespace

// Units are what is claimed: `grain` indices, or more where those would be too many to count.
struct alignas(uint64_t) Units {  // one word, or the atomic would be a lock
  uint32_t begin, end;
};

constexpr int64_t kMaxUnits = int64_t{1} << 31;

// What is left of a thread's share of a loop. Its owner takes from the front, so that it reads on where it was, others steal from the back.
struct alignas(64) Share {
  std::atomic<Units> left{};
};

// A loop is announced by a new `generation`, which workers wait for, and guarded by `gate`: workers join while it is open, and the
// caller, when nothing is left to claim, closes it and waits for those that joined. A worker that wakes up late finds it closed and was
// not waited for: a descheduled thread costs nothing but its help.
struct ThreadPool::Impl {
  explicit Impl(int threads) : size(threads), shares(static_cast<size_t>(threads)) {}

  static constexpr uint32_t kOpen = 1u << 31;

  const int size;
  std::vector<std::thread> workers;
  alignas(64) std::atomic<uint32_t> generation{0};
  std::atomic<uint32_t> sleeping_workers{0};
  std::atomic<bool> stopping{false};
  std::atomic<std::chrono::microseconds> patience{kPatience};
  alignas(64) std::atomic<uint32_t> gate{0};  // kOpen | workers inside
  std::atomic<uint32_t> sleeping_callers{0};
  alignas(64) std::atomic<int> parts{0};  // shares that are not empty
  std::atomic<bool> failed{false};
  std::atomic_flag busy = ATOMIC_FLAG_INIT;
  std::vector<Share> shares;

  // The loop that runs; written while the gate is closed and nobody is inside.
  int64_t n = 0;
  int64_t unit = 1;
  const FunctionRef<void(int64_t, int64_t, int)>* body = nullptr;
  std::mutex failure_mutex;
  std::exception_ptr failure;

  bool join();
  void leave();
  void share_out();
  bool take(int worker, Units& taken);
  bool steal(int worker);
  void take_part(int worker);
  void run_worker(int worker, const fenv_t& environment);
};

namespace {

// The pool whose body this thread is running, and as which worker.
thread_local const void* inside_pool = nullptr;
thread_local int inside_worker = 0;

class Inside {
 public:
  Inside(const void* pool, int worker) : outer_pool_(std::exchange(inside_pool, pool)), outer_worker_(std::exchange(inside_worker, worker)) {}
  ~Inside() {
    inside_pool = outer_pool_;
    inside_worker = outer_worker_;
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

 private:
  const void* outer_pool_;
  int outer_worker_;
};

}  // namespace

bool ThreadPool::Impl::join() {
  uint32_t value = gate.load(std::memory_order_relaxed);
  while (value & kOpen) {
    if (gate.compare_exchange_weak(value, value + 1, std::memory_order_acquire, std::memory_order_relaxed)) return true;
  }
  return false;
}

void ThreadPool::Impl::leave() {
  if (gate.fetch_sub(1, std::memory_order_seq_cst) == 1 && sleeping_callers.load(std::memory_order_seq_cst) > 0) futex_wake_all(gate);
}

// To each thread as much, one behind the other.
void ThreadPool::Impl::share_out() {
  const int64_t units = ceil_div(n, unit);
  int used = 0;
  for (int64_t i = 0; i < size; ++i) {
    const Units mine = {static_cast<uint32_t>(units * i / size), static_cast<uint32_t>(units * (i + 1) / size)};
    shares[static_cast<size_t>(i)].left.store(mine, std::memory_order_relaxed);
    used += mine.begin < mine.end;
  }
  parts.store(used, std::memory_order_relaxed);
}

// Half of what is left of the worker's share.
bool ThreadPool::Impl::take(int worker, Units& taken) {
  std::atomic<Units>& own = shares[static_cast<size_t>(worker)].left;
  Units left = own.load(std::memory_order_relaxed);
  uint32_t end;
  do {
    if (left.begin >= left.end) return false;
    end = left.begin + (left.end - left.begin + 1) / 2;
  } while (!own.compare_exchange_weak(left, {end, left.end}, std::memory_order_relaxed));
  if (end == left.end) parts.fetch_sub(1, std::memory_order_relaxed);
  taken = {left.begin, end};
  return true;
}

// Makes the back half of somebody's share that of the worker, which has none.
bool ThreadPool::Impl::steal(int worker) {
  if (parts.load(std::memory_order_relaxed) == 0) return false;
  for (int i = 1; i < size; ++i) {
    std::atomic<Units>& other = shares[static_cast<size_t>((worker + i) % size)].left;
    Units left = other.load(std::memory_order_relaxed);
    while (left.begin < left.end) {
      const uint32_t middle = left.begin + (left.end - left.begin) / 2;
      if (!other.compare_exchange_weak(left, {left.begin, middle}, std::memory_order_relaxed)) continue;
      if (middle > left.begin) parts.fetch_add(1, std::memory_order_relaxed);
      shares[static_cast<size_t>(worker)].left.store({middle, left.end}, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

void ThreadPool::Impl::take_part(int worker) {
  const Inside inside(this, worker);
  Units taken;
  while (!failed.load(std::memory_order_relaxed)) {
    if (!take(worker, taken)) {
      if (!steal(worker)) return;
      continue;
    }
    try {
      (*body)(taken.begin * unit, std::min(n, taken.end * unit), worker);
    } catch (...) {
      const std::lock_guard lock(failure_mutex);
      if (!failed.exchange(true)) failure = std::current_exception();
    }
  }
}

void ThreadPool::Impl::run_worker(int worker, const fenv_t& environment) {
  fesetenv(&environment);
  uint32_t seen = 0;
  while (true) {
    seen =
        wait_until(generation, sleeping_workers, patience.load(std::memory_order_relaxed), [&](uint32_t value) { return value != seen; });
    if (stopping.load(std::memory_order_relaxed)) return;
    if (!join()) continue;
    take_part(worker);
    leave();
  }
}

ThreadPool::ThreadPool(int threads) {
  require(threads >= 1 && threads <= kMaxThreads, "ThreadPool: ", threads, " threads, expected 1 to ", kMaxThreads);
  impl_ = std::make_unique<Impl>(threads);
  fenv_t environment;
  fegetenv(&environment);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (int worker = 1; worker < threads; ++worker) {
      impl_->workers.emplace_back([impl = impl_.get(), worker, environment] { impl->run_worker(worker, environment); });
    }
  } catch (const std::exception& error) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    stop();
    fail(ErrorCode::kOutOfMemory, "ThreadPool: cannot start ", threads, " threads: ", error.what());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() { stop(); }

void ThreadPool::stop() {
  impl_->stopping.store(true, std::memory_order_relaxed);
  impl_->generation.fetch_add(1, std::memory_order_seq_cst);
  futex_wake_all(impl_->generation);
  for (std::thread& worker : impl_->workers) worker.join();
}

int ThreadPool::size() const { return impl_->size; }

void ThreadPool::set_patience(std::chrono::microseconds patience) { impl_->patience.store(patience, std::memory_order_relaxed); }

void ThreadPool::parallel_for(int64_t n, int64_t grain, FunctionRef<void(int64_t, int64_t, int)> body) {
  require(grain >= 1, "parallel_for: grain is ", grain, ", expected at least 1");
  if (n <= 0) return;
  require(n <= kMaxIndices, "parallel_for: ", n, " indices, expected at most ", kMaxIndices);
  Impl& pool = *impl_;
  if (inside_pool == &pool) return body(0, n, inside_worker);
  require(!pool.busy.test_and_set(std::memory_order_acquire), "parallel_for: the pool serves another caller");
  struct Release {
    Impl& pool;
    ~Release() { pool.busy.clear(std::memory_order_release); }
  } release{pool};
  if (n <= grain || pool.size == 1) {
    const Inside inside(&pool, 0);
    return body(0, n, 0);
  }
  pool.n = n;
  pool.unit = std::max(grain, ceil_div(n, kMaxUnits));
  pool.body = &body;
  pool.share_out();
  pool.failed.store(false, std::memory_order_relaxed);
  pool.gate.store(Impl::kOpen, std::memory_order_release);
  pool.generation.fetch_add(1, std::memory_order_seq_cst);
  if (pool.sleeping_workers.load(std::memory_order_seq_cst) > 0) futex_wake_all(pool.generation);
  pool.take_part(0);
  pool.gate.fetch_and(~Impl::kOpen, std::memory_order_seq_cst);
  wait_until(pool.gate, pool.sleeping_callers, kPatience, [](uint32_t value) { return value == 0; });
  if (pool.failure) std::rethrow_exception(std::exchange(pool.failure, nullptr));
}

}  // namespace wick
