#include "wick/base/thread_pool.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include <atomic>
#include <cfenv>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <vector>

#include "wick/base/error.h"

namespace wick {
namespace {

TEST(ThreadPool, CoversEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(threads, pool.size());
    for (const int64_t n : {0, 1, 2, 7, 100, 4097}) {
      for (const int64_t grain : {1, 3, 64}) {
        std::vector<std::atomic<int>> hits(static_cast<size_t>(n));
        pool.parallel_for(n, grain, [&](int64_t begin, int64_t end, int worker) {
          EXPECT_EQ(0, begin % grain);
          EXPECT_GE(worker, 0);
          EXPECT_LT(worker, threads);
          for (int64_t i = begin; i < end; ++i) hits[static_cast<size_t>(i)]++;
        });
        for (const auto& hit : hits) ASSERT_EQ(1, hit.load());
      }
    }
  }
}

TEST(ThreadPool, ManyShortLoopsOnMoreThreadsThanCores) {
  for (const int threads : {2, 4, 8}) {
    ThreadPool pool(threads);
    int64_t total = 0;
    for (int loop = 0; loop < 100000 / threads; ++loop) {
      std::atomic<int64_t> sum{0};
      pool.parallel_for(8, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
      total += sum;
    }
    EXPECT_EQ(100000 / threads * 8, total);
  }
}

TEST(ThreadPool, WorkersAreUniqueAmongConcurrentCalls) {
  ThreadPool pool(4);
  std::atomic<int> inside[4] = {};
  for (int loop = 0; loop < 500; ++loop) {
    pool.parallel_for(32, 1, [&](int64_t, int64_t, int worker) {
      EXPECT_EQ(0, inside[worker].fetch_add(1));
      inside[worker].fetch_sub(1);
    });
  }
}

TEST(ThreadPool, OthersTakeTheShareOfAThreadThatIsHeldUp) {
  constexpr int64_t kCount = 1024;
  for (const int threads : {2, 4}) {
    ThreadPool pool(threads);
    std::atomic<int64_t> done{0};
    std::atomic_flag held = ATOMIC_FLAG_INIT;
    pool.parallel_for(kCount, 1, [&](int64_t begin, int64_t end, int) {
      if (!held.test_and_set()) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (done < kCount - (end - begin) && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
        EXPECT_EQ(kCount - (end - begin), done);
      }
      done += end - begin;
    });
    EXPECT_EQ(kCount, done);
  }
}

TEST(ThreadPool, LoopsAfterAPauseFindSleepingWorkers) {
  ThreadPool pool(3);
  for (int i = 0; i < 150; ++i) {
    pool.set_patience(std::chrono::microseconds(i % 3 * 500));
    std::this_thread::sleep_for(std::chrono::microseconds(i * 7));
    std::atomic<int64_t> sum{0};
    pool.parallel_for(1000, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    ASSERT_EQ(1000, sum.load());
  }
}

TEST(ThreadPool, AFailureReachesTheCallerAndThePoolGoesOn) {
  ThreadPool pool(3);
  for (int loop = 0; loop < 200; ++loop) {
    EXPECT_THROW(pool.parallel_for(100, 1, [&](int64_t begin, int64_t, int) { if (begin >= 20) throw std::runtime_error("boom"); }), std::runtime_error);
    std::atomic<int64_t> sum{0};
    pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
    ASSERT_EQ(100, sum.load());
  }
}

TEST(ThreadPool, ANestedLoopRunsInlineAsTheSameWorker) {
  ThreadPool pool(4);
  std::atomic<int64_t> sum{0};
  pool.parallel_for(16, 1, [&](int64_t, int64_t, int outer) {
    pool.parallel_for(10, 1, [&](int64_t begin, int64_t end, int inner) {
      EXPECT_EQ(outer, inner);
      sum += end - begin;
    });
  });
  EXPECT_GE(sum.load(), 10 * 4);
  EXPECT_EQ(0, sum.load() % 10);
}

TEST(ThreadPool, ANestedLoopRunsInlineInALoopThatDoes) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    int64_t sum = 0;
    pool.parallel_for(2, 2, [&](int64_t, int64_t, int outer) {
      EXPECT_EQ(0, outer);
      pool.parallel_for(10, 1, [&](int64_t begin, int64_t end, int inner) {
        EXPECT_EQ(0, inner);
        sum += end - begin;
      });
    });
    EXPECT_EQ(10, sum);
    EXPECT_THROW(pool.parallel_for(2, 2, [](int64_t, int64_t, int) { throw std::runtime_error("boom"); }), std::runtime_error);
    pool.parallel_for(8, 1, [](int64_t, int64_t, int) {});
  }
}

TEST(ThreadPool, ALoopOfAnotherPoolRunsInsideABody) {
  ThreadPool outer(2), inner(2);
  std::atomic<int64_t> sum{0};
  std::atomic_flag taken = ATOMIC_FLAG_INIT;
  outer.parallel_for(8, 1, [&](int64_t, int64_t, int) {
    if (taken.test_and_set()) return;  // one caller at a time
    inner.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
  });
  EXPECT_EQ(100, sum.load());
}

TEST(ThreadPool, ABodyThatFailsInANestedLoopFailsTheOuterOne) {
  ThreadPool pool(2);
  EXPECT_THROW(pool.parallel_for(8, 1, [&](int64_t, int64_t, int) { pool.parallel_for(8, 1, [](int64_t, int64_t, int) { throw std::runtime_error("boom"); }); }),
               std::runtime_error);
  std::atomic<int64_t> sum{0};
  pool.parallel_for(100, 1, [&](int64_t begin, int64_t end, int) { sum += end - begin; });
  EXPECT_EQ(100, sum.load());
}

TEST(ThreadPool, ManyPoolsComeAndGo) {
  for (int i = 0; i < 200; ++i) {
    ThreadPool pool(4);
    if (i % 2 == 0) pool.parallel_for(16, 1, [](int64_t, int64_t, int) {});
  }
}

TEST(ThreadPool, WorkersBlockSignals) {
  ThreadPool pool(2);
  std::atomic<int> open{0}, seen{0};
  for (int i = 0; i < 1000 && seen == 0; ++i) {
    pool.parallel_for(8, 1, [&](int64_t, int64_t, int worker) {
      if (worker == 0) return std::this_thread::sleep_for(std::chrono::microseconds(50));
      sigset_t blocked;
      pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
      ++seen;
      for (const int signal : {SIGINT, SIGTERM, SIGUSR1, SIGALRM}) open += sigismember(&blocked, signal) ? 0 : 1;
    });
  }
  EXPECT_GT(seen.load(), 0);
  EXPECT_EQ(0, open.load());
  sigset_t own;
  pthread_sigmask(SIG_SETMASK, nullptr, &own);
  EXPECT_FALSE(sigismember(&own, SIGINT)) << "the maker keeps its mask";
}

TEST(ThreadPool, ASecondCallerIsRefused) {
  ThreadPool pool(2);
  std::atomic<bool> entered{false}, leave{false};
  std::thread other([&] {
    pool.parallel_for(2, 1, [&](int64_t, int64_t, int) {
      entered = true;
      while (!leave) std::this_thread::yield();
    });
  });
  while (!entered) std::this_thread::yield();
  EXPECT_THROW(pool.parallel_for(2, 1, [](int64_t, int64_t, int) {}), Error);
  leave = true;
  other.join();
  pool.parallel_for(2, 1, [](int64_t, int64_t, int) {});
}

TEST(ThreadPool, WorkersKeepTheFloatingPointModeOfTheirMaker) {
  const int before = std::fegetround();
  std::fesetround(FE_UPWARD);
  ThreadPool pool(2);
  std::fesetround(before);
  std::atomic<int> upward{0};
  for (int i = 0; i < 100; ++i) {
    pool.parallel_for(8, 1, [&](int64_t, int64_t, int worker) {
      if (worker == 1) upward += std::fegetround() == FE_UPWARD ? 1 : -1000000;
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    });
  }
  EXPECT_GT(upward.load(), 0);
}

// Processor time, not wall time: a pool that spins would use as much as it sleeps here.
TEST(ThreadPool, IdleWorkersUseNoProcessorTime) {
  ThreadPool pool(4);
  pool.set_patience(std::chrono::milliseconds(1));
  pool.parallel_for(100, 1, [](int64_t, int64_t, int) {});
  const auto used = [] {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  const double before = used();
  std::this_thread::sleep_for(std::chrono::milliseconds(400));
  EXPECT_LT(used() - before, 0.1);
}

TEST(ThreadPool, RefusesBadArguments) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(-1), Error);
  EXPECT_THROW(ThreadPool(1 << 20), Error);
  ThreadPool pool(1);
  EXPECT_THROW(pool.parallel_for(1, 0, [](int64_t, int64_t, int) {}), Error);
  EXPECT_THROW(pool.parallel_for(INT64_MAX, INT64_MAX, [](int64_t, int64_t, int) {}), Error);
  EXPECT_THROW(pool.parallel_for(INT64_MAX, 1, [](int64_t, int64_t, int) {}), Error);
  bool called = false;
  pool.parallel_for(-1, 1, [&](int64_t, int64_t, int) { called = true; });
  EXPECT_FALSE(called);
  pool.parallel_for(1, INT64_MAX, [&](int64_t, int64_t, int) { called = true; });
  EXPECT_TRUE(called);
}

}  // namespace
}  // namespace wick
