#include "wick/apps/model_writer.h"

#include "wick/apps/interrupt.h"
#include "wick/apps/output_file.h"
#include "wick/apps/terminal.h"
#include "wick/apps/values.h"
#include "wick/base/error.h"

namespace wick::apps {

ModelWriter::ModelWriter(const Metadata& metadata, const WeightRecipe& recipe, int64_t layers, bool tied)
    : recipe_(recipe), layers_(layers), tied_(tied), writer_(recipe.describe(metadata)) {}

std::optional<DType> ModelWriter::choose(const std::string& name, const Shape& shape) {
  const auto wanted = recipe_.wanted(name, shape, layers_, tied_);
  if (!wanted) return std::nullopt;
  const DType type = fitting_type(*wanted, shape[shape.rank() - 1]);
  if (type != *wanted) substitutes_.push_back({name, *wanted, type});
  return type;
}

void ModelWriter::add(const std::string& name, const Shape& shape, DType type, GgufWriter::Fill fill) {
  writer_.add(name, shape, type, std::move(fill));
  Total& total = totals_[type];
  ++total.tensors;
  total.bytes += dtype_bytes(type, static_cast<uint64_t>(element_count(shape)));
}

void ModelWriter::save(const std::string& path, const char* doing) const {
  ProgressBar bar(doing);
  OutputFile file(path);
  const uint64_t all = writer_.file_bytes();
  uint64_t written = 0;
  writer_.write([&](std::string_view bytes) {
    if (interrupted()) fail(ErrorCode::kCancelled, doing, " was interrupted");
    file.append(bytes);
    written += bytes.size();
    bar.update(written, all);
  });
  file.commit();
}

Json ModelWriter::summary(const std::string& path) const {
  Json types = Json::object(), substitutes = Json::array();
  int64_t tensors = 0;
  for (const auto& [type, total] : totals_) {
    types[dtype_name(type)] = {{"tensors", total.tensors}, {"bytes", total.bytes}};
    tensors += total.tensors;
  }
  for (const Substitute& each : substitutes_) {
    substitutes.push_back({{"tensor", each.tensor}, {"wanted", dtype_name(each.wanted)}, {"type", dtype_name(each.type)}});
  }
  return {{"out", path},     {"type", recipe_.name}, {"bytes", writer_.file_bytes()}, {"tensors", tensors}, {"types", std::move(types)},
          {"substitutes", std::move(substitutes)}};
}

std::string ModelWriter::summary_text(const std::string& path) const {
  constexpr size_t kShownNames = 3;
  std::string text = concat(shown(path, 1000), ": ", format_bytes(writer_.file_bytes()), "\n");
  for (const auto& [type, total] : totals_) {
    text += concat("  ", dtype_name(type), ": ", total.tensors, total.tensors == 1 ? " tensor, " : " tensors, ", format_bytes(total.bytes), "\n");
  }
  std::map<std::pair<DType, DType>, std::vector<std::string>> groups;
  for (const Substitute& each : substitutes_) groups[{each.wanted, each.type}].push_back(each.tensor);
  for (const auto& [types, names] : groups) {
    const auto& [wanted, type] = types;
    text += concat("  ", dtype_name(type), " instead of ", dtype_name(wanted), " where rows are not whole blocks of ", traits(wanted).block, ": ");
    for (size_t i = 0; i < names.size() && i < kShownNames; ++i) text += (i ? ", " : "") + shown(names[i]);
    text += names.size() > kShownNames ? concat(", … ", names.size(), " in all\n") : "\n";
  }
  return text;
}

}  // namespace wick::apps
