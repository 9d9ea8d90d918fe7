# gradpool's network side: pure parts and bounds in C++, the rest from outside by Python (python3-cryptography, python3-numpy).
add_executable(http_head_test http_head_test.cpp http_server_test.cpp)
target_link_libraries(http_head_test PRIVATE project_options gradpool_http GTest::gtest_main)
gtest_discover_tests(http_head_test DISCOVERY_TIMEOUT 60)
add_dependencies(http_head_test gradpool)  # so that tests/coordinator/all holds what the tests below start

foreach(name http refuse page metrics)
  add_test(NAME gradpool_${name} COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/${name}_test.py)
  set_tests_properties(gradpool_${name} PROPERTIES TIMEOUT 300 ENVIRONMENT "GRADPOOL=$<TARGET_FILE:gradpool>")
endforeach()
# A sanitizer finds nothing in a browser that the other two do not show it. Alone: screenshots are taken when Chromium's
# virtual time has passed, whether the page is drawn or not.
set_tests_properties(gradpool_page PROPERTIES LABELS browser RUN_SERIAL TRUE)
