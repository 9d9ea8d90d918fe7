# gradpool_http: the pool's network side (HTTPS API, status page, metrics, `serve`).
find_package(Boost 1.81 REQUIRED)
find_package(prometheus-cpp REQUIRED COMPONENTS core)
find_file(CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js NO_DEFAULT_PATH REQUIRED
          DOC "Chart.js 3, of Debian's libjs-chart.js")

# The page's files are part of the binary.
set(PAGE_FILES ${CMAKE_CURRENT_SOURCE_DIR}/page/index.html ${CMAKE_CURRENT_SOURCE_DIR}/page/page.js
               ${CMAKE_CURRENT_SOURCE_DIR}/page/style.css ${CHART_JS})
configure_file(page/embedded.S.in ${CMAKE_CURRENT_BINARY_DIR}/embedded.S @ONLY)
set_source_files_properties(${CMAKE_CURRENT_BINARY_DIR}/embedded.S PROPERTIES OBJECT_DEPENDS "${PAGE_FILES}")

add_library(gradpool_http STATIC api.cpp background.cpp http_head.cpp http_message.cpp http_server.cpp logging.cpp metrics.cpp
                                 peer_address.cpp serve_command.cpp status_page.cpp tls_context.cpp ${CMAKE_CURRENT_BINARY_DIR}/embedded.S)
# Asio's coroutine templates take minutes at -O3; a server that waits for networks gains nothing from it.
set_source_files_properties(http_head.cpp http_server.cpp PROPERTIES COMPILE_OPTIONS $<$<CONFIG:Release>:-O1>)
target_include_directories(gradpool_http PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_link_libraries(gradpool_http PUBLIC gradpool_core protocol nlohmann_json::nlohmann_json spdlog::spdlog
                      PRIVATE project_options CLI11::CLI11 Boost::headers OpenSSL::SSL OpenSSL::Crypto
                              prometheus-cpp::core Threads::Threads)
