# What `cmake --install` puts where: the library, its headers, and the files by which find_package(wick) and pkg-config find it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

if(BUILD_SHARED_LIBS)
  target_link_options(wick_lib PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/wick.map)
  set_property(TARGET wick_lib APPEND PROPERTY LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/wick.map)
else()
  target_link_libraries(wick_lib INTERFACE $<INSTALL_INTERFACE:pcre2-8>)
endif()

install(TARGETS wick_lib EXPORT wickTargets)
foreach(folder base tensor kernels ops nn formats models text engine)
  file(GLOB headers ${PROJECT_SOURCE_DIR}/wick/${folder}/*.h)  # installed, not compiled: a list would say nothing more
  install(FILES ${headers} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/wick/${folder})
endforeach()
install(FILES ${PROJECT_SOURCE_DIR}/include/wick/wick.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/wick)

set(config_dir ${CMAKE_INSTALL_LIBDIR}/cmake/wick)
install(EXPORT wickTargets NAMESPACE wick:: DESTINATION ${config_dir})
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/wickConfig.cmake.in ${PROJECT_BINARY_DIR}/wickConfig.cmake INSTALL_DESTINATION ${config_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/wickConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/wickConfig.cmake ${PROJECT_BINARY_DIR}/wickConfigVersion.cmake DESTINATION ${config_dir})

configure_file(${PROJECT_SOURCE_DIR}/cmake/wick.pc.in ${PROJECT_BINARY_DIR}/wick.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/wick.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
