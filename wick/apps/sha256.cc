#include "wick/apps/sha256.h"

#include <openssl/evp.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "wick/base/error.h"
#include "wick/base/file.h"

namespace wick::apps {

std::string sha256_of_file(const std::string& path, const std::function<void(uint64_t)>& on_progress) {
  constexpr uint64_t kBlock = uint64_t{1} << 20;
  const auto check = [](bool good) {
    if (!good) fail(ErrorCode::kInternal, "SHA-256: the cryptographic library failed");
  };
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> digest(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  check(digest && EVP_DigestInit_ex(digest.get(), EVP_sha256(), nullptr) == 1);
  const File file = File::open(path);
  std::vector<std::byte> block(static_cast<size_t>(std::min(kBlock, file.size())));
  for (uint64_t done = 0; done < file.size(); done += block.size()) {
    block.resize(static_cast<size_t>(std::min(kBlock, file.size() - done)));
    file.read_at(done, block);
    check(EVP_DigestUpdate(digest.get(), block.data(), block.size()) == 1);
    if (on_progress) on_progress(done + block.size());
  }
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned int count = 0;
  check(EVP_DigestFinal_ex(digest.get(), bytes, &count) == 1);
  std::string text;
  for (unsigned int i = 0; i < count; ++i) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

}  // namespace wick::apps
