#include "program.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <regex>
#include <set>
#include <stdexcept>

#include "instructions.h"

namespace ptx {
namespace {

// Null where there is no such opcode.
const Opcode* find_opcode(const std::string& name) {
  static const Opcodes all = [] {
    Opcodes made;
    add_arithmetic(made);
    add_memory(made);
    add_warp_operations(made);
    for (const char* branch : {"bra", "bra.uni"}) made[branch] = {nullptr, Kind::branch};
    made["ret"] = {nullptr, Kind::end};
    return made;
  }();
  const auto found = all.find(name);
  return found == all.end() ? nullptr : &found->second;
}

// The words of a statement: names, numbers, and single signs that mean something.
std::vector<std::string> words_of(std::string_view statement) {
  std::vector<std::string> words;
  const auto of_word = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '$' || c == '%' || c == '-';
  };
  for (size_t i = 0; i < statement.size();) {
    size_t end = i;
    while (end < statement.size() && of_word(statement[end])) ++end;
    if (end > i) words.emplace_back(statement.substr(i, end - i));
    if (end < statement.size() && std::string_view("[]@!+").find(statement[end]) != std::string_view::npos)
      words.emplace_back(1, statement[end]);
    i = end + 1;
  }
  return words;
}

std::optional<Special> special_named(const std::string& name) {
  using Of = Special::Of;
  static const std::map<std::string, Of> all = {
      {"%tid", Of::thread}, {"%ntid", Of::block_size}, {"%ctaid", Of::block}, {"%nctaid", Of::grid}};
  const size_t end = name.find('.');
  const auto found = all.find(name.substr(0, end));
  if (end == std::string::npos || end + 2 != name.size() || found == all.end()) return std::nullopt;
  const size_t axis = std::string_view("xyz").find(name.back());
  if (axis == std::string_view::npos) return std::nullopt;
  return Special{found->second, axis};
}

std::string without_comments(const std::string& text) {
  std::string code;
  for (size_t begin = 0; begin < text.size();) {
    const size_t comment = std::min(text.find("//", begin), text.size());
    code.append(text, begin, comment - begin);
    begin = std::min(text.find('\n', comment), text.size());
  }
  return code;
}

class KernelReader {
 public:
  explicit KernelReader(std::string name) { kernel_.name = std::move(name); }

  Kernel read(const std::string& head, const std::string& body) {
    read_head(head);
    for (size_t begin = 0; begin < body.size();) begin = read_next(body, begin);
    for (const auto& [instruction, label] : branches_) {
      const auto found = labels_.find(label);
      if (found == labels_.end()) fail(label, "no such label");
      kernel_.code[instruction].target = found->second;
    }
    kernel_.static_shared_bytes = (kernel_.static_shared_bytes + 15) / 16 * 16;  // the dynamic follows
    if (dynamic_shared_ != no_register) kernel_.constants[dynamic_shared_] = kernel_.static_shared_bytes;
    return std::move(kernel_);
  }

 private:
  [[noreturn]] void fail(const std::string& statement, const std::string& problem) const {
    throw std::runtime_error("PTX of " + kernel_.name + ", `" + statement + "`: " + problem);
  }

  void read_head(const std::string& head) {
    static const std::regex parameter(R"(\.param \.align \d+ \.b8 (\w+)\[(\d+)\])"), threads(R"(\.maxntid (\d+))");
    std::smatch found;
    if (!std::regex_search(head, found, parameter)) fail(head, "no parameter");
    symbols_[found[1]] = 0;
    kernel_.args_bytes = std::stoul(found[2]);
    if (std::regex_search(head, found, threads)) kernel_.most_threads = static_cast<uint32_t>(std::stoul(found[1]));
  }

  // A label, the brace of a block, or a statement; returns what follows it.
  size_t read_next(const std::string& body, size_t begin) {
    begin = body.find_first_not_of(" \t\n", begin);
    if (begin == std::string::npos) return body.size();
    if (body[begin] == '{' || body[begin] == '}') return begin + 1;
    const size_t end = body.find_first_of(":;", begin);
    if (end == std::string::npos) fail(body.substr(begin), "it does not end");
    const std::string text = body.substr(begin, end - begin);
    if (body[end] == ':') {
      labels_[text] = static_cast<uint32_t>(kernel_.code.size());
    } else if (text.starts_with(".shared")) {
      read_shared(text);
    } else if (text.starts_with(".reg")) {
      for (const std::string& name : words_of(text)) declared_.insert(name);
    } else if (!text.starts_with(".pragma")) {
      read_instruction(text);
    }
    return end + 1;
  }

  void read_shared(const std::string& text) {
    static const std::regex array(R"(\.shared \.align (\d+) \.[bfsu](\d+) (\w+)(?:\[(\d+)\])?)");
    std::smatch found;
    if (!std::regex_match(text, found, array)) fail(text, "not understood");
    const size_t align = std::stoul(found[1]), count = found[4].matched ? std::stoul(found[4]) : 1;
    kernel_.static_shared_bytes = (kernel_.static_shared_bytes + align - 1) / align * align;
    symbols_[found[3]] = kernel_.static_shared_bytes;
    kernel_.static_shared_bytes += std::stoul(found[2]) / 8 * count;
  }

  void read_instruction(const std::string& text) {
    Instruction instruction;
    instruction.text = text;
    std::vector<std::string> words = words_of(text);
    auto word = words.begin();
    if (*word == "@") {
      instruction.negated = *++word == "!";
      if (instruction.negated) ++word;
      instruction.guard = register_of(text, *word++);
    }
    const bool packs = word->starts_with("mov.") && text.find('{') != std::string::npos;
    instruction.opcode = find_opcode(packs ? *word + ".pack" : *word);
    if (!instruction.opcode) fail(text, "not an instruction of this executor");
    ++word;
    if (instruction.opcode->kind == Kind::branch) {
      branches_.emplace_back(kernel_.code.size(), *word++);
    }
    unsigned count = 0;
    for (bool in_address = false, after_plus = false; word != words.end(); ++word) {
      if (*word == "[" || *word == "]") {
        in_address = *word == "[";
      } else if (*word == "+") {
        after_plus = in_address;
      } else if (after_plus) {
        instruction.offset = std::stoll(*word);
        after_plus = false;
      } else {
        if (count == instruction.opcode->operands) fail(text, "too many operands");
        instruction.operands[count++] = register_of(text, *word);
      }
    }
    if (count != instruction.opcode->operands) fail(text, "too few operands");
    kernel_.code.push_back(std::move(instruction));
  }

  uint32_t register_of(const std::string& text, const std::string& name) {
    const auto [found, is_new] = registers_.try_emplace(name, kernel_.registers);
    if (!is_new) return found->second;
    const uint32_t number = kernel_.registers++;
    if (name == "dynamic_shared") {
      dynamic_shared_ = number;
    } else if (const auto symbol = symbols_.find(name); symbol != symbols_.end()) {
      kernel_.constants[number] = symbol->second;
    } else if (name.starts_with("0f")) {
      kernel_.constants[number] = std::stoul(name.substr(2), nullptr, 16);
    } else if (std::isdigit(static_cast<unsigned char>(name[0])) || name[0] == '-') {
      kernel_.constants[number] = name[0] == '-' ? static_cast<uint64_t>(std::stoll(name)) : std::stoull(name);
    } else if (const std::optional<Special> special = special_named(name)) {
      kernel_.specials.emplace(number, *special);
    } else if (const bool numbered = name[0] == '%' && std::isdigit(static_cast<unsigned char>(name.back()));
               !numbered && !declared_.contains(name)) {
      fail(text, name + " is not known");
    }
    return number;
  }

  Kernel kernel_;
  std::map<std::string, uint64_t> symbols_;
  std::map<std::string, uint32_t> registers_, labels_;
  std::set<std::string> declared_;
  std::vector<std::pair<size_t, std::string>> branches_;  // instruction and label
  uint32_t dynamic_shared_ = no_register;
};

}  // namespace

std::map<std::string, std::string> kernel_texts(const std::string& file) {
  const std::string code = without_comments(file), entry = ".entry ";
  std::map<std::string, std::string> texts;
  for (size_t begin = code.find(entry); begin != std::string::npos;) {
    begin += entry.size();
    const size_t next = code.find(entry, begin);
    texts[code.substr(begin, code.find('(', begin) - begin)] = code.substr(begin, next - begin);
    begin = next;
  }
  return texts;
}

Kernel read_kernel(const std::string& text) {
  const size_t body = text.find('{'), end = text.rfind('}');
  const std::string head = text.substr(0, body);
  return KernelReader(head.substr(0, head.find('('))).read(head, text.substr(body + 1, end - body - 1));
}

}  // namespace ptx
